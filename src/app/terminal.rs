//! Output of commands for people.

use std::io::{self, Write as _};

use unicode_width::UnicodeWidthStr as _;

/// A table as kubectl prints it: each column is as wide as its widest cell. Widths are in columns of a terminal.
pub fn align<R: AsRef<[String]>>(rows: &[R]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.as_ref().iter().enumerate() {
            let width = cell.width();
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
            .map(|(cell, &width)| format!("{cell}{}", " ".repeat(width.saturating_sub(cell.width()))));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// Prints to standard output. A reader that stops early is no error.
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
    fn columns_fit_their_widest_cell_and_lines_end_without_blanks() {
        let rows = [["NAME", "WHY"], ["ä", "longer than that"], ["longest", ""]];
        let rows = rows.map(|row| row.map(str::to_owned));
        assert_eq!(
            align(&rows),
            "NAME      WHY\nä         longer than that\nlongest\n"
        );
        assert_eq!(align::<[String; 2]>(&[]), "");
        let wide =
            [["日本", "two columns each"], ["e\u{301}", "one column"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            align(&wide),
            "日本   two columns each\ne\u{301}      one column\n"
        );
    }
}
