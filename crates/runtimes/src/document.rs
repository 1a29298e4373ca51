//! A TOML file that was read, with the line that each thing stands in.

use std::{ops::Range, path::Path};

use toml_edit::{Document, Item, Table, TableLike, Value};

use crate::{Error, Place};

/// A parsed file with its text.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    path: &'a Path,
    text: &'a str,
    document: Document<&'a str>,
}

impl<'a> Parsed<'a> {
    pub(crate) fn new(path: &'a Path, text: &'a str) -> Result<Self, Error> {
        let document = Document::parse(text).map_err(|error| {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            Error::unfit(path, line, format!("this is not TOML: {}", error.message().replace('\n', ", ")))
        })?;
        Ok(Self { path, text, document })
    }

    pub(crate) fn root(&self) -> &Table {
        self.document.as_table()
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// The place of what has a span; the file where it has none.
    pub(crate) fn place(&self, span: Option<Range<usize>>) -> Place {
        Place { file: self.path.to_owned(), line: span.map_or(0, |span| line_of(self.text, span.start)) }
    }

    /// The place of a key of a table.
    pub(crate) fn place_of(&self, table: &dyn TableLike, key: &str) -> Place {
        let span = table.key(key).and_then(toml_edit::Key::span).or_else(|| table.get(key).and_then(Item::span));
        self.place(span)
    }

    /// The headers `[…]` and `[[…]]` in the order of the file: each with its table, and where the comments before it
    /// begin at the earliest.
    pub(crate) fn headers(&self) -> Vec<Header<'_>> {
        let mut headers = Vec::new();
        collect(self.root(), &mut Vec::new(), &mut headers);
        headers.sort_by_key(|header| header.at);
        headers
    }
}

/// A header of a table.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    /// The keys in it.
    pub(crate) path: Vec<&'a str>,
    /// The offset of its bracket.
    pub(crate) at: usize,
    /// Where blank lines and comments before it begin.
    pub(crate) prefix: usize,
    /// What it opens.
    pub(crate) table: &'a Table,
}

fn collect<'a>(table: &'a Table, path: &mut Vec<&'a str>, headers: &mut Vec<Header<'a>>) {
    let mut see = |table: &'a Table, path: &mut Vec<&'a str>| {
        if let Some(span) = table.span().filter(|_| !table.is_implicit() && !table.is_dotted()) {
            let prefix =
                table.decor().prefix().and_then(toml_edit::RawString::span).map_or(span.start, |span| span.start);
            headers.push(Header { path: path.clone(), at: span.start, prefix, table });
        }
        collect(table, path, headers);
    };
    for (key, item) in table {
        path.push(key);
        match item {
            Item::Table(table) => see(table, path),
            Item::ArrayOfTables(tables) => tables.iter().for_each(|table| see(table, path)),
            Item::None | Item::Value(_) => {}
        }
        path.pop();
    }
}

/// The line, from 1 on, that a byte is in.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The whole lines, with their ends, that a range of bytes touches.
pub(crate) fn lines_around(text: &str, range: &Range<usize>) -> Range<usize> {
    let start = text[..range.start].rfind('\n').map_or(0, |end| end + 1);
    let end = text[range.end..].find('\n').map_or(text.len(), |end| range.end + end + 1);
    start..end
}

/// A text as TOML writes it.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
