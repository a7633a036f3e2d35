//! What a command prints for people.

use std::io::{self, Write as _};

/// Rows of cells in columns as wide as they need to be, as kubectl prints them.
pub fn align<R: AsRef<[String]>>(rows: &[R]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.as_ref().iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row
            .as_ref()
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// Prints to standard output. Whoever reads it may have seen enough before its end.
pub fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_blanks() {
        let rows = [["NAME", "WHY"], ["ä", "longer than that"], ["longest", ""]];
        let rows = rows.map(|row| row.map(str::to_owned));
        assert_eq!(
            align(&rows),
            "NAME      WHY\nä         longer than that\nlongest\n"
        );
        assert_eq!(align::<[String; 2]>(&[]), "");
    }
}
