//! Tables that fit the terminal and never cut a name.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

use crate::origin::printable;

/// Lays rows out under a header. The first `whole` columns are never broken; the others wrap where the
/// terminal ends. What is no terminal gets one line a row.
pub(crate) fn table(header: &[&str], whole: usize, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()) {
        table.set_width(width);
    }
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        let room = if index + 1 == header.len() { 0 } else { 1 };
        column.set_padding((0, room));
        if index < whole {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt() + "\n"
}
