//! The picture of `palm top` in the guide, drawn from the screen. `UPDATE_EXPECT=1` writes it.

use std::fmt::Write as _;

use expect_test::expect_file;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use super::*;
use crate::render::svg::escaped;

/// The size of a cell, and the space around the screen.
const CELL: (f32, f32) = (8.0, 18.0);
const MARGIN: f32 = 12.0;

#[test]
fn picture_in_the_guide_is_that_of_the_screen() {
    let mut screen = Screen::new(84, 12);
    screen.app.has_colours = true;
    let dead = Answer::Unreachable("connection refused".to_owned());
    let [master, index] = [master(3), index(3)].map(Box::new).map(Answer::Report);
    let answers = vec![
        ("tcp://10.0.0.7:5559", master),
        ("tcp://10.0.0.8:5559", index),
        ("tcp://10.0.0.9:5559", dead),
    ];
    let at = screen.begin + Duration::from_secs(3);
    screen.app.update(cluster(answers), at);
    screen.text();
    let picture = picture(screen.terminal.backend().buffer());
    expect_file!["../../../../docs/book/src/images/top.svg"].assert_eq(&picture);
}

/// Returns the screen as SVG.
fn picture(buffer: &Buffer) -> String {
    let area = buffer.area;
    let width = f32::from(area.width) * CELL.0 + 2.0 * MARGIN;
    let height = f32::from(area.height) * CELL.1 + 2.0 * MARGIN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n\
         <title>The screen of palm top</title>\n\
         <style>svg {{ font: 13px monospace; white-space: pre; }} text {{ white-space: pre; }}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#16181d\"/>\n"
    );
    for row in 0..area.height {
        let cells = &buffer.content[usize::from(row * area.width)..][..usize::from(area.width)];
        let mut column = 0;
        for run in cells.chunk_by(|left, right| left.style() == right.style()) {
            let symbols: String = run.iter().map(Cell::symbol).collect();
            draw_run(&mut text, (column, row), run, &symbols);
            column += run.len();
        }
    }
    text.push_str("</svg>\n");
    text
}

/// Draws cells of one style.
fn draw_run(text: &mut String, (column, row): (usize, u16), run: &[Cell], symbols: &str) {
    let x = column as f32 * CELL.0 + MARGIN;
    let y = f32::from(row) * CELL.1 + MARGIN;
    let width = run.len() as f32 * CELL.0;
    let modifiers = run[0].modifier;
    let mut colour = match run[0].fg {
        Color::Red => "#ff7b72",
        Color::Yellow => "#e3b341",
        Color::Reset => "#e6e6e6",
        other => panic!("the picture has no colour for {other:?}"),
    };
    if modifiers.contains(Modifier::REVERSED) {
        let height = CELL.1;
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{colour}\"/>"
        );
        colour = "#16181d";
    }
    let is_underlined = modifiers.contains(Modifier::UNDERLINED);
    if symbols.trim().is_empty() && !is_underlined {
        return;
    }
    let mut style = String::new();
    for (modifier, attribute) in [
        (Modifier::BOLD, " font-weight=\"bold\""),
        (Modifier::DIM, " opacity=\"0.6\""),
        (Modifier::UNDERLINED, " text-decoration=\"underline\""),
    ] {
        if modifiers.contains(modifier) {
            style.push_str(attribute);
        }
    }
    // Spaces at the ends have a width in no font that is certain, so they are left out.
    let leading = symbols.chars().take_while(|it| *it == ' ').count();
    let shown = symbols.trim();
    let x = x + leading as f32 * CELL.0;
    let width = shown.chars().count() as f32 * CELL.0;
    let y = y + CELL.1 - 5.0;
    let _ = writeln!(
        text,
        "<text x=\"{x}\" y=\"{y}\" textLength=\"{width}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{colour}\"{style}>{}</text>",
        escaped(shown)
    );
}
