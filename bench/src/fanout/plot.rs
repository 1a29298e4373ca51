//! A fan-out as a picture: how much each node has, over time.

use std::fmt::Write as _;

use super::trial::Trial;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 48.0;

/// An SVG image: what each node's link has brought it, a line for the origin's, and the bound.
pub(super) fn draw(trial: &Trial, bytes: u64, bound: f64) -> String {
    let end = trial.moments.last().map_or(1.0, |moment| moment.seconds).max(bound);
    let x = |seconds: f64| MARGIN + WIDTH * seconds / end;
    // Headers and repeats count too, so that a line may end above the layer.
    let most = bytes as f64 * 1.1;
    let y = |count: u64| MARGIN + HEIGHT * (1.0 - (count as f64 / most).min(1.0));
    let (full_width, full_height) = (WIDTH + 2.0 * MARGIN, HEIGHT + 2.0 * MARGIN);
    let (bottom, right) = (MARGIN + HEIGHT, MARGIN + WIDTH);
    let last = trial.seconds.iter().copied().fold(0.0, f64::max);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full_width} {full_height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{MARGIN}" y="24" font-size="14">{}: {} nodes, the last after {last:.1} s, {:.3} x the bound</text>
<path d="M{MARGIN},{MARGIN} V{bottom} H{right}" fill="none" stroke="#333"/>
<text x="{MARGIN}" y="{}">0 s</text><text x="{right}" y="{}" text-anchor="end">{end:.1} s</text>
"##,
        trial.mode.name(),
        trial.nodes.len(),
        last / bound,
        bottom + 16.0,
        bottom + 16.0,
    );
    let line = |carried: &dyn Fn(usize) -> u64, color: &str| {
        let mut sum = 0;
        let mut points = String::new();
        for (at, moment) in trial.moments.iter().enumerate() {
            sum += carried(at);
            let _ = write!(points, "{:.1},{:.1} ", x(moment.seconds), y(sum));
        }
        format!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.2\"/>\n")
    };
    for node in 0..trial.nodes.len() {
        svg += &line(&|at| trial.moments[at].down[node], "#1f77b4");
    }
    svg += &line(&|at| trial.moments[at].origin, "#d62728");
    let (layer, place) = (y(bytes), x(bound));
    let _ = writeln!(svg, r##"<path d="M{MARGIN},{layer:.1} H{right}" stroke="#999" stroke-dasharray="2 3"/>"##);
    let _ = writeln!(svg, r##"<text x="8" y="{layer:.1}">layer</text>"##);
    let _ = writeln!(svg, r##"<path d="M{place:.1},{MARGIN} V{bottom}" stroke="#333" stroke-dasharray="4 3"/>"##);
    let _ = writeln!(svg, r#"<text x="{:.1}" y="{}" text-anchor="end">bound</text>"#, place - 4.0, bottom - 6.0);
    let (one, two) = (MARGIN + 16.0, MARGIN + 32.0);
    let _ = writeln!(svg, r##"<text x="{}" y="{one}" fill="#1f77b4">a node has received</text>"##, MARGIN + 8.0);
    let _ = writeln!(svg, r##"<text x="{}" y="{two}" fill="#d62728">the origin has sent</text></svg>"##, MARGIN + 8.0);
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::trial::{Mode, Moment, NodeFigures};

    #[test]
    fn each_node_has_a_line() {
        let moment = |seconds| Moment { seconds, origin: 5, up: vec![1, 1], down: vec![5, 5] };
        let trial = Trial {
            mode: Mode::Shoal,
            seconds: vec![2.0, 1.5],
            first_byte: vec![0.1, 0.1],
            origin_log_bytes: 10,
            origin_wire_bytes: 10,
            nodes: vec![NodeFigures::default(); 2],
            into_zones: Vec::new(),
            lost_packets: 0,
            idle: 0.5,
            moments: vec![moment(1.0), moment(2.0)],
        };
        let svg = draw(&trial, 10, 1.6);
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.contains("1.250 x the bound") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
