//! The last node's time over the bound, as bars.

use std::fmt::Write as _;

use super::Measured;
use crate::fanout::Mode;

const BAR: f64 = 22.0;
const GAP: f64 = 30.0;
const HEIGHT: f64 = 220.0;
const MARGIN: f64 = 44.0;
/// The axis ends at this ratio, unless a bar is longer.
const LEAST_TOP: f64 = 1.5;
const COLORS: [(Mode, &str); 2] = [(Mode::Shoal, "#1f77b4"), (Mode::Bittorrent, "#ff7f0e")];

/// An SVG image: a group of bars for each fleet, one for each mode, from 1 up.
pub(super) fn draw(measured: &[Measured]) -> String {
    let ratios = measured.iter().flat_map(|measured| &measured.modes).map(|mode| mode.ratio);
    let top = ratios.fold(LEAST_TOP, f64::max);
    let y = |ratio: f64| MARGIN + HEIGHT * (top - ratio.max(1.0)) / (top - 1.0);
    let bars: usize = measured.iter().map(|measured| measured.modes.len()).sum();
    let width = BAR * bars as f64 + GAP * (measured.len() + 1) as f64;
    let (bottom, right) = (MARGIN + HEIGHT, MARGIN + width);
    let (full_width, full_height) = (right + MARGIN, bottom + 64.0);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full_width} {full_height}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="#fff"/>
<text x="{MARGIN}" y="18" font-size="14">The last node's time over the bound for whole pieces</text>
<path d="M{MARGIN},{MARGIN} V{bottom} H{right}" fill="none" stroke="#333"/>
"##
    );
    for tenth in 10..=(top * 10.0) as u32 {
        let ratio = f64::from(tenth) / 10.0;
        let at = y(ratio);
        let _ = writeln!(svg, r##"<path d="M{MARGIN},{at:.1} H{right}" stroke="#ddd"/>"##);
        let _ = writeln!(svg, r#"<text x="{}" y="{:.1}" text-anchor="end">{ratio:.1}</text>"#, MARGIN - 6.0, at + 4.0);
    }
    let mut x = MARGIN + GAP;
    for measured in measured {
        let first = x;
        for mode in &measured.modes {
            let color = COLORS.iter().find(|(of, _)| *of == mode.mode).map_or("#7f7f7f", |(_, color)| color);
            let (at, wide) = (y(mode.ratio), BAR - 2.0);
            let high = (bottom - at).max(0.0);
            let _ = writeln!(svg, r#"<rect x="{x:.1}" y="{at:.1}" width="{wide}" height="{high:.1}" fill="{color}"/>"#);
            let (middle, above) = (x + wide / 2.0, at - 3.0);
            let _ = writeln!(
                svg,
                r#"<text x="{middle:.1}" y="{above:.1}" text-anchor="middle" font-size="9">{:.2}</text>"#,
                mode.ratio
            );
            x += BAR;
        }
        let middle = f64::midpoint(first, x) - 1.0;
        for (line, words) in
            [format!("{} nodes", measured.nodes), measured.rate.clone(), format!("origin {}", measured.origin_rate)]
                .into_iter()
                .enumerate()
        {
            let at = bottom + 14.0 + 12.0 * line as f64;
            let _ =
                writeln!(svg, r#"<text x="{middle:.1}" y="{at}" text-anchor="middle" font-size="8">{words}</text>"#);
        }
        x += GAP;
    }
    for ((of, color), at) in COLORS.into_iter().zip([MARGIN, MARGIN + 90.0]) {
        if measured.iter().flat_map(|measured| &measured.modes).any(|mode| mode.mode == of) {
            let _ = writeln!(svg, r#"<text x="{at}" y="34" fill="{color}">{}</text>"#, of.who());
        }
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_of_each_fleet_has_a_bar() {
        let json = r#"{"nodes": 8, "bytes": 1, "rate": "200mbit", "origin_rate": "800mbit", "origin": "x", "more": 1,
            "bound": {"whole_pieces": 1.0, "fluid": 1.0}, "modes": [MODE, MODE]}"#;
        let mode = r#"{"mode": "shoal", "last": 1, "median": 1, "ratio": 1.25, "origin_log": 1, "wire": 1, "duplicates": 0,
            "cpu_a_gibibyte": 1, "trials": 1, "first": 1, "origin_wire": 1, "peak_resident": 1, "first_byte": 1, "lost_packets": 0, "idle": 1}"#;
        let measured: Measured = serde_json::from_str(&json.replace("MODE", mode)).unwrap();
        let svg = draw(&[measured.clone(), measured]);
        assert_eq!(svg.matches("#1f77b4\"/>").count(), 4);
        assert!(svg.contains("origin 800mbit") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
