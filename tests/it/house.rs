//! Habits of the house that no compiler checks: head lines, lengths, and what no file may mention.

use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a source file, its tests not counted.
const LONGEST: usize = 400;

/// Files that may be longer. Keep it empty: a long file wants to be two.
const LONGER: &[&str] = &[];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` that can be committed, as paths from the top.
fn files(folder: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![top().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let ignored =
                [".git", "target", "corpus", "artifacts"].iter().any(|name| entry.file_name() == *name);
            match entry.file_type().unwrap() {
                _ if ignored => {}
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path().strip_prefix(top()).unwrap().to_owned()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(top().join(path)).unwrap()).into_owned()
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Fails with all faults at once, a line each.
fn none(faults: impl Iterator<Item = String>) {
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_source_says_in_its_first_line_what_it_is_for() {
    let sources = [files("src"), files("tests")].concat().into_iter().filter(|path| is_rust(path));
    none(sources.filter_map(|path| {
        let text = read(&path);
        let head = text.lines().find(|line| !line.starts_with("#!")).unwrap_or("");
        (!head.starts_with("//! ")).then(|| format!("{} begins with `{head}`", path.display()))
    }));
}

#[test]
fn no_source_is_longer_than_can_be_read_in_one_go() {
    let is_tests = |path: &PathBuf| path.to_string_lossy().ends_with("tests.rs");
    let sources = files("src").into_iter().filter(|path| is_rust(path) && !is_tests(path));
    none(sources.filter_map(|path| {
        let lines = read(&path).lines().take_while(|line| *line != "#[cfg(test)]").count();
        let allowed = LONGER.iter().any(|longer| path == Path::new(longer));
        (lines > LONGEST && !allowed)
            .then(|| format!("{} has {lines} lines before its tests", path.display()))
    }));
}

#[test]
fn no_file_points_outside_the_repository() {
    let outside = concat!("..", "/shared");
    for path in files("") {
        assert!(!read(&path).contains(outside), "{} mentions {outside}", path.display());
    }
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    for path in files("").iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = read(path);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next());
        for target in targets.filter(|target| !target.is_empty() && !target.contains("://")) {
            let folder = path.parent().unwrap_or(Path::new(""));
            assert!(top().join(folder).join(target).exists(), "{} links to {target}", path.display());
        }
    }
}
