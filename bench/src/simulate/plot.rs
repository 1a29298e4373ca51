//! A run as a picture: who is complete, and how common pieces are, over time.

use std::fmt::Write as _;

use shoal_simulator::{Moment, Outcome};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 48.0;

/// An SVG image: nodes complete and copies of the rarest, median and commonest piece, with the bound as a line.
pub(super) fn draw(name: &str, outcome: &Outcome) -> String {
    let end = outcome.moments.last().map_or(1.0, |moment| moment.seconds).max(outcome.bound_seconds);
    let nodes = f64::from(outcome.nodes.max(1));
    let x = |seconds: f64| MARGIN + WIDTH * seconds / end;
    let y = |count: u32| MARGIN + HEIGHT * (1.0 - f64::from(count) / nodes);
    let (full_width, full_height) = (WIDTH + 2.0 * MARGIN, HEIGHT + 2.0 * MARGIN);
    let (bottom, right) = (MARGIN + HEIGHT, MARGIN + WIDTH);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full_width} {full_height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{MARGIN}" y="24" font-size="14">{name}: {} nodes, {} pieces, slowest {:.3} x the bound</text>
<path d="M{MARGIN},{MARGIN} V{bottom} H{right}" fill="none" stroke="#333"/>
<text x="{MARGIN}" y="{}">0 s</text><text x="{right}" y="{}" text-anchor="end">{end:.1} s</text>
<text x="8" y="{MARGIN}">{}</text>
"##,
        outcome.nodes,
        outcome.pieces,
        outcome.ratio_max,
        bottom + 16.0,
        bottom + 16.0,
        outcome.nodes,
    );
    type Count = fn(&Moment) -> u32;
    let curves: [(&str, &str, Count); 4] = [
        ("complete nodes", "#1f77b4", |moment| moment.complete),
        ("copies of the rarest piece", "#d62728", |moment| moment.copies[0]),
        ("of the median piece", "#ff7f0e", |moment| moment.copies[1]),
        ("of the commonest piece", "#2ca02c", |moment| moment.copies[2]),
    ];
    for (at, (label, color, count)) in curves.into_iter().enumerate() {
        let points = outcome.moments.iter().fold(String::new(), |mut points, moment| {
            let _ = write!(points, "{:.1},{:.1} ", x(moment.seconds), y(count(moment)));
            points
        });
        let place = MARGIN + 16.0 * (at as f64 + 1.0);
        let _ = writeln!(svg, r#"<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"/>"#);
        let _ = writeln!(svg, r#"<text x="{}" y="{place}" fill="{color}">{label}</text>"#, MARGIN + 8.0);
    }
    let bound = x(outcome.bound_seconds);
    let _ = writeln!(svg, r##"<path d="M{bound:.1},{MARGIN} V{bottom}" stroke="#333" stroke-dasharray="4 3"/>"##);
    let _ = writeln!(svg, r#"<text x="{:.1}" y="{}" text-anchor="end">bound</text></svg>"#, bound - 4.0, bottom - 6.0);
    svg
}
