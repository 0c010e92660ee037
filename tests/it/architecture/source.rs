//! Reads Rust source as text, just well enough to know every path it names and every macro it calls.
//!
//! Comments, strings and characters are dropped first, so that prose and test data name nothing. A `use` tree
//! is spread out into whole paths; a path in code is completed with what the file imports under its first
//! name; `self` and `super` are resolved against the module that the text stands in.

use std::collections::HashMap;

/// A path as the text means it: `crate` or a crate's name first, then modules and the item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Named {
    /// The whole path.
    pub(crate) path: Vec<String>,
    /// Where, from 1.
    pub(crate) line: usize,
    /// Whether it stands in a `#[cfg(test)]` module.
    pub(crate) test: bool,
    /// Whether it is a macro that is called (its path ends in the macro's name).
    pub(crate) called: bool,
}

/// A word or one sign, and its line.
#[derive(Clone, Debug)]
struct Token {
    text: String,
    line: usize,
}

/// Everything that `text`, the source of `module` (no component for the crate's root), names.
pub(crate) fn named(text: &str, module: &[String]) -> Vec<Named> {
    let tokens = tokens(text);
    let mut reader = Reader { tokens: &tokens, at: 0, found: Vec::new(), imports: HashMap::new() };
    reader.items(&mut module.to_vec(), false, 0);
    let Reader { found, imports, .. } = reader;
    found.into_iter().flat_map(|name| complete(name, &imports)).collect()
}

/// `fs::read` where the file says `use std::fs` is `std::fs::read`.
fn complete(name: Named, imports: &HashMap<String, Vec<Vec<String>>>) -> Vec<Named> {
    let known = name.path.first().and_then(|first| imports.get(first));
    let Some(known) = known.filter(|_| name.path.len() > 1 || name.called) else { return vec![name] };
    known
        .iter()
        .map(|path| Named { path: [&path[..], &name.path[1..]].concat(), ..name.clone() })
        .chain([name.clone()])
        .collect()
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    found: Vec<Named>,
    /// What each name that is imported anywhere in the file stands for.
    imports: HashMap<String, Vec<Vec<String>>>,
}

impl Reader<'_> {
    /// Reads up to the brace that closes what is open (`depth` of them), or the end of the file.
    fn items(&mut self, module: &mut Vec<String>, test: bool, depth: usize) {
        let mut marked = false;
        while let Some(token) = self.tokens.get(self.at) {
            match token.text.as_str() {
                "#" if self.is("[ cfg ( test ) ]", 1) => {
                    marked = true;
                    self.at += 7;
                }
                "mod" if self.text(2) == "{" => {
                    module.push(self.text(1).to_owned());
                    self.at += 3;
                    self.items(module, test || marked, depth + 1);
                    module.pop();
                    marked = false;
                }
                "use" => {
                    self.at += 1;
                    let mut leaves = Vec::new();
                    self.tree(&[], &mut leaves);
                    leaves.into_iter().for_each(|leaf| self.import(leaf, module, test || marked));
                    marked = false;
                }
                "{" => {
                    self.at += 1;
                    self.items(module, test || marked, depth + 1);
                    marked = false;
                }
                "}" => {
                    self.at += 1;
                    if depth > 0 {
                        return;
                    }
                }
                word if is_word(word) || word == "::" => self.path(module, test || marked),
                ";" => {
                    marked = false;
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
    }

    /// A path in code.
    fn path(&mut self, module: &[String], test: bool) {
        let line = self.tokens[self.at].line;
        let field = self.at > 0 && self.tokens[self.at - 1].text == ".";
        self.at += usize::from(self.text(0) == "::");
        let mut path = vec![self.text(0).to_owned()];
        self.at += 1;
        while self.text(0) == "::" && is_word(self.text(1)) {
            path.push(self.text(1).to_owned());
            self.at += 2;
        }
        let called = self.text(0) == "!" && self.text(1) != "=";
        if !field && (path.len() > 1 || called) {
            self.found.push(Named { path: resolve(path, module), line, test, called });
        }
    }

    /// The branches of a `use` tree below `prefix`, each with the name it is imported under.
    fn tree(&mut self, prefix: &[String], leaves: &mut Vec<(Vec<String>, String, usize)>) {
        let (mut path, start) = (prefix.to_vec(), self.at);
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        loop {
            match self.text(0) {
                "::" => self.at += 1,
                "{" => {
                    self.at += 1;
                    while !["}", ""].contains(&self.text(0)) {
                        self.tree(&path, leaves);
                        self.at += usize::from(self.text(0) == ",");
                    }
                    self.at += 1;
                    return;
                }
                word if is_word(word) || word == "*" => {
                    // A lone `self` in braces names the path before it.
                    if word != "self" || path.is_empty() {
                        path.push(word.to_owned());
                    }
                    self.at += 1;
                }
                _ => break,
            }
            if self.text(0) == "as" {
                let alias = self.text(1).to_owned();
                self.at += 2;
                return leaves.push((path, alias, line));
            }
        }
        if self.at > start {
            let alias = path.last().cloned().unwrap_or_default();
            leaves.push((path, alias, line));
        } else {
            // No tree of paths, as in `impl Trait + use<'a>`.
            self.at += 1;
        }
    }

    fn import(&mut self, (path, alias, line): (Vec<String>, String, usize), module: &[String], test: bool) {
        let path = resolve(path, module);
        if path.last().is_none_or(|last| last != "*") && path.first() != Some(&alias) {
            self.imports.entry(alias).or_default().push(path.clone());
        }
        self.found.push(Named { path, line, test, called: false });
    }

    /// The text of a token from here on; nothing past the end.
    fn text(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| &token.text)
    }

    fn is(&self, signs: &str, ahead: usize) -> bool {
        signs.split(' ').enumerate().all(|(i, sign)| self.text(ahead + i) == sign)
    }
}

/// The path with `self` and `super` at its front replaced by what they mean in `module`.
fn resolve(path: Vec<String>, module: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|word| ["self", "super"].contains(&word.as_str())).count();
    if ups == 0 {
        let mut path = path;
        if path[0] == "syncfiles" {
            path[0] = "crate".to_owned();
        }
        return path;
    }
    let supers = path[..ups].iter().filter(|word| *word == "super").count();
    let above = &module[..module.len().saturating_sub(supers)];
    [&["crate".to_owned()][..], above, &path[ups..]].concat()
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The words and signs of `text`, without comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        let (length, kept) = match rest {
            ['/', '/', ..] => (rest.iter().take_while(|&&c| c != '\n').count(), false),
            ['/', '*', ..] => (block_comment(rest), false),
            ['b', '\'', ..] => (1, false),
            ['\'', '\\', _, tail @ ..] => (4 + tail.iter().take_while(|&&c| c != '\'').count(), false),
            ['\'', _, '\'', ..] => (3, false),
            ['\'', ..] => (1 + word(&rest[1..]), false),
            ['"', ..] => (quoted(rest), false),
            ['b' | 'c', '"', ..] => (1 + quoted(&rest[1..]), false),
            [':', ':', ..] => (2, true),
            [c, ..] if c.is_whitespace() => (1, false),
            _ => raw_string(rest).map_or((word(rest).max(1), true), |length| (length, false)),
        };
        let taken = &rest[..length.min(rest.len())];
        if kept {
            tokens.push(Token { text: taken.iter().collect(), line });
        }
        line += taken.iter().filter(|&&c| c == '\n').count();
        at += taken.len();
    }
    tokens
}

fn word(chars: &[char]) -> usize {
    chars.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count()
}

fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(chars: &[char]) -> usize {
    let mut at = 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of a raw string that starts here: `r"…"`, `br#"…"#` and the like.
fn raw_string(chars: &[char]) -> Option<usize> {
    let prefix = chars.iter().position(|&c| c == 'r').filter(|&at| at <= 1)? + 1;
    if prefix == 2 && !matches!(chars[0], 'b' | 'c') {
        return None;
    }
    let hashes = chars[prefix..].iter().take_while(|&&c| c == '#').count();
    let start = prefix + hashes;
    if chars.get(start) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let end = chars[start + 1..].windows(close.len()).position(|window| window == close)?;
    Some(start + 1 + end + close.len())
}
