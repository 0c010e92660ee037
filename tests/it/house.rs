//! Habits of the house that no compiler checks: head lines, lengths, and what no file may mention.

use std::fs;
use std::path::{Path, PathBuf};

use syncfiles::cli::exit::ExitCode;

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
fn whatever_the_package_takes_from_the_repository_is_there_and_no_file_for_it_is_forgotten() {
    let manifest = read(Path::new("Cargo.toml"));
    let package = manifest.split("\n[").find(|section| section.starts_with("package.metadata.deb]")).unwrap();
    let quoted: Vec<&str> = package.split('"').skip(1).step_by(2).collect();
    let sources = quoted
        .iter()
        .filter(|text| text.starts_with("docs/") || **text == "README.md" || **text == "LICENSE");
    none(sources.filter_map(|source| {
        let folder = source.split("/*").next().unwrap();
        (!top().join(folder).exists()).then(|| format!("the package takes {source}, which is not there"))
    }));
    // Units and scripts are taken by their folder.
    let by_folder = |path: &Path| {
        path.extension()
            .is_some_and(|end| ["service", "socket", "sysusers"].iter().any(|known| end == *known))
    };
    none(files("docs/service").into_iter().filter_map(|path| {
        let named = quoted.contains(&path.to_str().unwrap()) || quoted.contains(&path.parent()?.to_str()?);
        (!named && !by_folder(&path)).then(|| format!("{} goes into no package", path.display()))
    }));
}

/// What no other kernel has, as sources write it.
const LINUX: [&str; 9] = [
    "openat2(",
    "statx(",
    "syncfs(",
    "ioctl_ficlone(",
    "copy_file_range(",
    "OFlags::PATH",
    "fs::RawDir",
    "format!(\"/proc/",
    "landlock::",
];

#[test]
fn what_only_linux_has_stands_only_in_files_that_are_for_linux_alone() {
    let linux = ["src/replica/system/linux.rs", "src/cli/commands/sandbox/landlock.rs"].map(Path::new);
    let sources = files("src").into_iter().filter(|path| is_rust(path));
    let (alone, shared): (Vec<_>, Vec<_>) = sources.partition(|path| linux.contains(&path.as_path()));
    let found = |path: &PathBuf| {
        let (text, name) = (read(path), path.display().to_string());
        LINUX
            .into_iter()
            .filter(move |call| text.contains(call))
            .map(move |call| format!("{name} has {call}"))
    };
    assert!(alone.iter().flat_map(found).count() > 5, "the files for Linux have moved");
    none(shared.iter().flat_map(found));
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

/// What stands between backticks in `text`, and the text that follows it.
fn quoted(text: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = text.split('`').collect();
    parts
        .chunks(2)
        .zip(parts.chunks(2).skip(1))
        .filter_map(|(a, b)| Some((*a.get(1)?, *b.first()?)))
        .collect()
}

#[test]
fn every_row_of_the_semantics_names_a_test_and_every_test_that_they_name_is_one() {
    let semantics = read(Path::new("docs/semantics.md"));
    let rust = ["src", "tests"].into_iter().flat_map(files).filter(|path| is_rust(path));
    let sources: Vec<(PathBuf, String)> = rust.map(|path| (path.clone(), read(&path))).collect();
    let is_test = |name: &str, file: Option<&str>| {
        let of = |text: &String| {
            text.split("#[test]").skip(1).any(|rest| {
                let head = rest.split_once(&format!("fn {name}(")).map(|(head, _)| head);
                head.is_some_and(|head| !head.contains("fn "))
            })
        };
        sources.iter().any(|(path, text)| file.is_none_or(|file| path == Path::new(file)) && of(text))
    };
    let mut faults = Vec::new();
    for line in semantics.lines() {
        let quoted = quoted(line);
        let named: Vec<_> =
            quoted.iter().enumerate().filter(|(_, (name, _))| name.matches('_').count() > 2).collect();
        for (at, (name, after)) in &named {
            let file =
                quoted.get(at + 1).map(|next| next.0).filter(|next| *after == " (" && next.ends_with(".rs"));
            if !is_test(name, file) {
                faults.push(format!("no test: {name} {}", file.unwrap_or_default()));
            }
        }
        let heading = ["| term |", "| --- |", "| case |", "| here and there |", "| policy |"];
        if line.starts_with("| ")
            && line.matches(" | ").count() == 2
            && named.is_empty()
            && !heading.iter().any(|head| line.starts_with(head))
        {
            faults.push(format!("no test is named: {line}"));
        }
    }
    none(faults.into_iter());
}

/// The codes of `ExitCode`, with what help says about each.
fn exit_codes() -> Vec<(u8, &'static str)> {
    ExitCode::ALL.iter().map(|code| (code.number(), code.meaning())).collect()
}

#[test]
fn every_exit_code_is_reached_by_a_test_and_explained_in_the_guide() {
    let source = read(Path::new("src/cli/exit.rs"));
    let variants = source.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "));
    let declared: Vec<u8> = variants.filter_map(|(_, number)| number.parse().ok()).collect();
    assert_eq!(exit_codes().iter().map(|(number, _)| *number).collect::<Vec<_>>(), declared);
    let (tests, guide) = (read(Path::new("tests/it/exit_codes.rs")), read(Path::new("docs/guide.md")));
    none(exit_codes().into_iter().filter_map(|(number, meaning)| {
        let tested = tests.contains(&format!("#[test]\nfn code_{number}_"));
        let explained = guide.contains(&format!("| {number} | {meaning} |"));
        (!tested || !explained).then(|| format!("{number}: tested {tested}, in the guide {explained}"))
    }));
}

/// A text for people without what the program fills in: `…` in a document, `{…}` in the source.
fn fixed_parts(message: &str) -> Vec<String> {
    message.split('…').map(|part| part.trim().to_owned()).filter(|part| part.len() > 3).collect()
}

#[test]
fn every_message_that_the_guide_explains_is_one_that_the_program_says() {
    // As written in string literals: those that go over several lines are joined as the compiler joins them.
    let sources = files("src").into_iter().filter(|path| is_rust(path)).map(|path| read(&path));
    let sources: Vec<String> = sources.map(|text| joined(&text)).collect();
    let guide = read(Path::new("docs/guide.md"));
    let section = guide.split("\n## ").find(|section| section.starts_with("When it says"));
    let rows = section.unwrap().lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let messages: Vec<&str> = rows.map(|(message, _)| message).collect();
    assert!(messages.len() > 20, "{messages:?}");
    none(messages.into_iter().filter_map(|message| {
        let parts = fixed_parts(message);
        let said = |text: &String| parts.iter().all(|part| text.contains(part.as_str()));
        (parts.is_empty() || !sources.iter().any(said)).then(|| format!("nothing says: {message}"))
    }));
}

/// A source in which a literal that a backslash continues on the next line is one line.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start())
}
