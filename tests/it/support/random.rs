//! Random bases and pairs of trees over so few names, contents, bits and ages that everything collides.

use proptest::prelude::*;
use syncfiles::core::policy::{ConflictPolicy, May, Policy};
use syncfiles::core::side::Sides;

use super::trees::{Entry, Kind, Tree};

/// A base and two trees, and what the user chose.
#[derive(Clone, Debug)]
pub struct Case {
    pub base: Tree,
    pub trees: Sides<Tree>,
    pub policy: Policy,
}

/// The last ones are names under which a loser `x` of `a` is kept.
const PATHS: [&str; 22] = [
    "a",
    "a/a",
    "a/a/a",
    "a/a/b",
    "a/b",
    "a/b/a",
    "a/b/b",
    "a/c",
    "a/c/a",
    "b",
    "b/a",
    "b/a/a",
    "b/a/b",
    "b/b",
    "b/b/a",
    "b/b/b",
    "c",
    "a.conflict-2d711642",
    "a.conflict-2d711642b726b044",
    "a/a.conflict-2d711642",
    "b/a.conflict-a1fce436",
    "b/conflict",
];
const TEXTS: [&str; 4] = ["x", "y", "", "zz"];

/// One path of three trees: an index into what may stand there, shrinking to nothing.
type Cell = (u8, u8, u8, u8);

fn cell() -> impl Strategy<Value = Cell> {
    (0..12u8, 0..4u8, 0..6u8, 0..5u8)
}

fn entry((kind, text, mode, age): Cell, deep: bool) -> Option<Entry> {
    let kind = match (kind, deep) {
        (0..=1, _) => return None,
        (2..=4, _) | (5..=6, true) => Kind::File(TEXTS[usize::from(text)]),
        (7, _) => Kind::Link(TEXTS[usize::from(text % 2)]),
        (8, _) => Kind::Unknown,
        _ => Kind::Folder,
    };
    let mode = if matches!(kind, Kind::Link(_)) {
        0o777
    } else {
        [0o755, 0o755, 0o755, 0o755, 0o700, 0o644][usize::from(mode)]
    };
    Some(Entry { kind, mode, age: i64::from(age) })
}

/// Each path's cell: in the base, and for each side whether it differs from the base and how.
type Cells = Vec<(Cell, (u8, Cell), (u8, Cell))>;

fn build(cells: &Cells, rows: &[bool], policy: Policy) -> Case {
    let mut case = Case { base: Tree::new(), trees: Sides::default(), policy };
    let mut shape = Tree::new();
    for (number, (at, (old, one, two))) in PATHS.iter().zip(cells).enumerate() {
        let deep = at.len() > 4;
        add(&mut shape, at, entry(*old, deep));
        // The base of a path that has been skipped or never settled has no row.
        if rows[number % rows.len()] {
            case.base.extend(shape.get(*at).map(|e| (at.to_string(), e.clone())));
        }
        let kept = shape.get(*at).filter(|e| e.visible()).cloned();
        for (tree, (same, new)) in [(&mut case.trees.one, one), (&mut case.trees.two, two)] {
            let entry = match same {
                0..=4 => kept.clone(),
                5 => None,
                7 if new.0 % 2 == 1 => Some(Entry { kind: Kind::Unknown, mode: 0o755, age: 0 }),
                // Gone folders are often still there.
                6 if shape.contains_key(*at) => {
                    shape.get(*at).map(|e| Entry { kind: Kind::Folder, ..e.clone() })
                }
                _ => entry(*new, deep),
            };
            add(tree, at, entry);
        }
    }
    case
}

fn add(tree: &mut Tree, at: &str, entry: Option<Entry>) {
    let parent = at.rsplit_once('/').map(|(parent, _)| parent);
    if parent.is_none_or(|p| tree.get(p).is_some_and(|e| e.kind == Kind::Folder)) {
        tree.extend(entry.map(|entry| (at.to_string(), entry)));
    }
}

fn policy() -> impl Strategy<Value = Policy> {
    use ConflictPolicy::*;
    let conflict =
        prop_oneof![3 => Just(Newer), 1 => Just(One), 1 => Just(Two), 2 => Just(KeepBoth), 1 => Just(Skip)];
    let all = May { write: true, delete: true };
    let none = May { write: false, delete: false };
    let keeps = May { write: true, delete: false };
    let may = prop_oneof![
        6 => Just(Sides { one: all, two: all }),
        1 => Just(Sides { one: all, two: none }),
        1 => Just(Sides { one: none, two: all }),
        1 => Just(Sides { one: keeps, two: all }),
        1 => Just(Sides { one: keeps, two: none }),
    ];
    (any::<bool>(), conflict, may, prop::bool::weighted(0.3), 0..2i64).prop_map(
        |(delete, conflict, may, mirror, uncertainty)| Policy { delete, conflict, may, mirror, uncertainty },
    )
}

/// A random case.
pub fn case() -> impl Strategy<Value = Case> {
    let side = || (0..10u8, cell());
    let cells = prop::collection::vec((cell(), side(), side()), PATHS.len());
    // Three in four cases have a base, half of these without some of its rows.
    let rows = prop_oneof![
        2 => Just(vec![true]),
        1 => prop::collection::vec(prop::bool::weighted(0.8), 5),
        1 => Just(vec![false]),
    ];
    (cells, rows, policy()).prop_map(|(cells, rows, policy)| build(&cells, &rows, policy))
}
