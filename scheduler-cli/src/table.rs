//! Tables that fit the terminal and never cut a name.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};

use crate::origin::printable;

/// The least room for the column that gives way.
const LEAST: u16 = 10;

/// Lays rows out under a header, on a terminal as wide as that is, elsewhere one line a row.
///
/// Where it is narrow the column `yields` wraps and the others stay whole; where even that does not fit, each
/// row becomes a block with one line a cell.
pub(crate) fn table(header: &[&str], yields: usize, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()) {
        table.set_width(width);
    }
    table.set_header(header.to_vec()).add_rows(rows.clone());
    let mut least = 0;
    let widths = table.column_max_content_widths();
    for (index, column) in table.column_iter_mut().enumerate() {
        let gap = if index + 1 == header.len() { 0 } else { 1 };
        let whole = widths.get(index).copied().unwrap_or(0);
        least += gap + if index == yields { whole.min(LEAST) } else { whole };
        column.set_padding((0, gap));
        column.set_constraint(match index == yields {
            true => ColumnConstraint::LowerBoundary(Width::Fixed(whole.min(LEAST))),
            false => ColumnConstraint::ContentWidth,
        });
    }
    match table.width() {
        Some(width) if width < least => blocks(header, &rows),
        _ => table.trim_fmt() + "\n",
    }
}

fn blocks(header: &[&str], rows: &[Vec<String>]) -> String {
    let label = header.iter().map(|name| name.len()).max().unwrap_or(0);
    let block = |row: &Vec<String>| -> String {
        header.iter().zip(row).map(|(name, cell)| format!("{name:label$}  {cell}\n")).collect()
    };
    rows.iter().map(block).collect::<Vec<_>>().join("\n")
}
