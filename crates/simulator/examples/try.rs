#![allow(missing_docs)]
use shoal_simulator::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut e = catalog::find(&a[1]).unwrap();
    if let Some(n) = a.get(2) { e.scenario.nodes = n.parse().unwrap(); }
    if let Some(k) = a.get(3) { e.scenario.pieces = k.parse().unwrap(); }
    let t = std::time::Instant::now();
    let o = run(&e.scenario);
    if let Some(b) = &o.broken { println!("{b}"); }
    println!("{} max {:.4} med {:.4} ctl {:.5} dup {:.4} origin {:.4} lag {}/{} xz {:.3} ev {} {:?} bound {:.1} fail {} wall {:.1}s {:?}", a[1], o.ratio_max, o.ratio_median, o.control_ratio, o.duplicate_ratio, o.origin_bytes_ratio, o.reader_lag_p50, o.reader_lag_p99, o.cross_zone_ratio, o.events, o.classes, o.bound_seconds, o.failed, t.elapsed().as_secs_f64(), e.gate.misses(&o));
}
