//! The rules of this repository that neither the compiler nor clippy checks. Each test lists every breach with file and line.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::{Source, closing, is_name, words};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// What the pure layers, 0 to 2, must not name: I/O, clocks, randomness, locks, logging.
const IMPURE: [&str; 26] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "to_socket_addrs",
    "SystemTime",
    "Instant",
    "rand",
    "tracing",
    "Mutex",
    "RwLock",
    "RefCell",
    "println!",
    "eprintln!",
    "tokio",
    "hyper",
    "nix",
    "rustix",
    "libc",
    "sysinfo",
];

/// What needs another word for the same thing everywhere in `src`.
const UNWANTED: [&str; 7] = ["todo!", "unimplemented!", "dbg!", "#[allow", "#![allow", "#[ignore", "thread::sleep"];

/// Where `unsafe` may stand.
const MAY_BE_UNSAFE: [&str; 2] = ["sys", "load"];
/// Where system calls may be named. The demo worker is a program of its own that happens to be in the same binary.
const MAY_CALL_THE_SYSTEM: [&str; 4] = ["src/sys", "src/load", "src/metrics/endpoint", "src/commands/demo_worker"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder`, but what git ignores and what is not text.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let ignored = ["target", ".git", "__pycache__"].contains(&name.as_str()) || path.ends_with("tests/parts");
            if path.is_dir() && !ignored {
                folders.push(path);
            } else if let (false, Ok(text)) = (ignored, fs::read_to_string(&path)) {
                found.push((path.strip_prefix(root()).expect("invariant: below the root").to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn sources(folder: &str) -> Vec<Source> {
    let is_rust = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
    let found = files(folder).into_iter().filter(|(path, _)| is_rust(path));
    let mut sources: Vec<Source> = found.map(|(path, text)| Source::new(&path, text)).collect();
    assert!(!sources.is_empty(), "no Rust in {folder}");
    let test_files: BTreeSet<PathBuf> = sources.iter().flat_map(test_files).collect();
    for source in &mut sources {
        if test_files.contains(&source.path) {
            source.shipped.clear();
        }
    }
    sources
}

/// The files of modules that a file declares for tests only.
fn test_files(source: &Source) -> Vec<PathBuf> {
    let folder = source.path.with_extension("");
    source.test_modules().iter().map(|module| folder.join(format!("{module}.rs"))).collect()
}

fn assert_none(breaches: &[String], rule: &str) {
    assert!(breaches.is_empty(), "{rule}:\n  {}\n", breaches.join("\n  "));
}

/// Every place where one of `unwanted` stands in what `part` shows of a file.
fn places<'a>(source: &Source, part: &str, unwanted: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let place = |word: &str, offset| format!("{}:{}: {word}", source.path.display(), source.line(offset));
    unwanted.into_iter().flat_map(|word| words(part, word).map(move |offset| place(word, offset))).collect()
}

/// The table in lib.rs: module → layer.
fn layers(lib: &str) -> BTreeMap<String, u32> {
    let mut layers = BTreeMap::new();
    for row in lib.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = row.split('|').map(str::trim);
        let (Some(Ok(layer)), Some(modules)) = (cells.next().map(str::parse::<u32>), cells.next()) else { continue };
        let named = modules.split("[`").skip(1).filter_map(|rest| rest.split_once("`]"));
        layers.extend(named.map(|(module, _)| (module.to_owned(), layer)));
    }
    layers
}

/// The modules that `code` names by `crate::`, each with its offset.
fn edges(code: &str) -> Vec<(usize, String)> {
    let mut edges = Vec::new();
    for start in words(code, "crate::") {
        let behind = start + "crate::".len();
        let rest = &code[behind..];
        let group = rest.strip_prefix('{').map(|_| &code[behind + 1..closing(code, behind) - 1]);
        let mut depth = 0;
        let parts = group.unwrap_or(rest).split(|character| {
            depth += i32::from(character == '{') - i32::from(character == '}');
            character == ',' && depth == 0
        });
        let names = parts.map(|part| part.trim_start().chars().take_while(|character| is_name(*character)).collect::<String>());
        let names = names.take(if group.is_some() { usize::MAX } else { 1 }).filter(|name| !name.is_empty());
        edges.extend(names.map(|name| (start, name)));
    }
    edges
}

/// Edges of a file that go up, sideways or nowhere.
fn wrong_edges(source: &Source, layers: &BTreeMap<String, u32>) -> Vec<String> {
    let module = source.module();
    let mut wrong = Vec::new();
    for (offset, target) in edges(&source.shipped) {
        let down = layers.get(&target).zip(layers.get(&module)).is_some_and(|(below, own)| below < own);
        if target != module && !down {
            wrong.push(format!("{}:{}: {module} → {target}", source.path.display(), source.line(offset)));
        }
    }
    // The other way out of a module's own subtree.
    let depth = source.path.components().count() - 1;
    let climb = "super::".repeat(depth);
    wrong.extend(
        source
            .shipped
            .match_indices(&climb)
            .map(|(offset, _)| format!("{}:{}: name the crate's root as `crate::`", source.path.display(), source.line(offset))),
    );
    wrong
}

#[test]
fn tidy_modules_use_only_lower_layers() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let layers = layers(&lib);
    let declared: BTreeSet<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(layers.keys().map(String::as_str).collect::<BTreeSet<_>>(), declared, "the table in lib.rs and its modules");
    let inside = sources("src").into_iter().filter(|source| !["lib", "main"].contains(&source.module().as_str()));
    let wrong: Vec<String> = inside.flat_map(|source| wrong_edges(&source, &layers)).collect();
    assert_none(&wrong, "a module uses only its own subtree and modules of a lower layer (table in src/lib.rs)");
}

#[test]
fn tidy_pure_layers_stay_pure() {
    let layers = layers(&fs::read_to_string(root().join("src/lib.rs")).unwrap());
    let pure = sources("src").into_iter().filter(|source| layers.get(&source.module()).is_some_and(|layer| *layer <= 2));
    let impure: Vec<String> = pure.flat_map(|source| places(&source, &source.shipped, IMPURE)).collect();
    assert_none(&impure, "layers 0 to 2 do no I/O, read no clock, draw no randomness, take no lock and log nothing");
}

#[test]
fn tidy_only_sys_and_load_touch_the_system() {
    let mut found = Vec::new();
    for source in sources("src") {
        if !MAY_BE_UNSAFE.contains(&source.module().as_str()) {
            found.extend(places(&source, &source.code, ["unsafe"]));
        }
        if !MAY_CALL_THE_SYSTEM.iter().any(|place| source.path.with_extension("").starts_with(place)) {
            found.extend(places(&source, &source.shipped, ["nix::", "rustix::", "libc::", "tokio::process"]));
        }
    }
    assert_none(&found, "`unsafe` and system calls belong to src/sys and src/load");
}

#[test]
fn tidy_no_unwanted_words() {
    let mut found = Vec::new();
    for source in sources("src") {
        found.extend(places(&source, &source.code, UNWANTED));
        found.extend(places(&source, &source.shipped, [".unwrap()", "process::exit"]));
    }
    for source in sources("tests/it") {
        found.extend(places(&source, &source.code, UNWANTED));
    }
    assert_none(&found, "use expect(\"invariant: …\"), #[expect(…, reason)], a state with a deadline, an exit code");
}

#[test]
fn tidy_files_and_functions_are_short() {
    let mut long = Vec::new();
    for (path, text) in files("src").into_iter().chain(files("tests")) {
        let lines = text.lines().count();
        if path.extension().is_some_and(|extension| extension == "py") && lines > FILE_LINES_MAX {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    for source in sources("src").iter().chain(&sources("tests/it")).chain(&sources("benches")) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            long.push(format!("{}: {lines} lines", source.path.display()));
        }
        for start in words(&source.code, "fn") {
            let lines = function_lines(&source.code[start..]);
            if lines > FUNCTION_LINES_MAX {
                long.push(format!("{}:{}: a function of {lines} lines", source.path.display(), source.line(start)));
            }
        }
    }
    assert_none(&long, "a file has at most 500 lines, a function at most 70");
}

/// Lines from `fn` to the end of the body; 0 for one without a body.
fn function_lines(code: &str) -> usize {
    if code.starts_with("fn(") {
        return 0;
    }
    // The body opens with the first brace outside of the signature's brackets.
    let mut depth = 0;
    for (offset, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return code[..closing(code, offset)].lines().count(),
            b';' if depth == 0 => return 0,
            _ => {}
        }
    }
    0
}

#[test]
fn tidy_files_say_what_they_are_for() {
    let silent = sources("src").into_iter().filter(|source| !source.shipped.is_empty() && !source.text.starts_with("//! "));
    let silent: Vec<String> = silent.map(|source| source.path.display().to_string()).collect();
    assert_none(&silent, "a file opens with `//!`: what it decides and what it refuses");
}

#[test]
fn tidy_every_dependency_says_why() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut silent = Vec::new();
    let (mut section, mut above) = ("", "");
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") && line.contains(" = ") && !line.starts_with('#') && !above.starts_with('#')
        {
            silent.push(line.to_owned());
        }
        above = line;
    }
    assert_none(&silent, "every dependency has a comment directly above it");
}

#[test]
fn tidy_no_file_names_a_folder_outside_of_the_repository() {
    // Put together here, so that this file does not name them.
    let homes = ["work", "root"].map(|name| format!("/{name}/"));
    let mut found = Vec::new();
    for (path, text) in files("") {
        let depth = path.components().count() - 1;
        let outside = "../".repeat(depth + 1);
        for (number, line) in text.lines().enumerate() {
            if homes.iter().any(|home| words(line, home).next().is_some()) || line.contains(&outside) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert_none(&found, "nothing outside of the repository is named");
}

#[test]
fn tidy_itself_finds_breaches() {
    let source = |path: &str, text: &str| Source::new(Path::new(path), text.to_owned());
    let layers = layers("//! | 2 | [`study`], [`replay`] | x |\n//! | 0 | [`units`] | y |\n//! |---|\n");
    assert_eq!(layers.len(), 3);
    let wrong = |text: &str| wrong_edges(&source("src/study/plan.rs", text), &layers).len();
    assert_eq!(
        wrong(
            "use crate::units::Rate;\nuse crate::{study::{a, b}, units};\n#[cfg(test)]\nmod tests { use crate::replay::Plan; }"
        ),
        0
    );
    assert_eq!(wrong("use crate::replay::Plan;"), 1);
    assert_eq!(wrong("use crate::{units::{Rate, Slot}, replay, sys::cpu};"), 2);
    assert_eq!(wrong("use super::super::replay;"), 1);
    assert_eq!(function_lines("fn a(f: fn(u8) -> u8) -> u8 {\n 1\n}\nfn b() {}"), 3);
    assert_eq!(function_lines("fn a<A, B>() -> [u8; 2]\nwhere A: B, B: C {\n}\n}"), 3);
    assert_eq!(function_lines("fn a(&self);\nfn c() {}"), 0);
    assert_eq!(
        places(&source("src/a.rs", "x;\nlet a = b.unwrap();"), "x;\nlet a = b.unwrap();", [".unwrap()"]),
        ["src/a.rs:2: .unwrap()"]
    );
    assert_eq!(words("unsafe_code unsafe", "unsafe").collect::<Vec<_>>(), [12]);
    assert_eq!(source("src/a.rs", "#[cfg(test)]\nmod simulation;\nmod other;").test_modules(), ["simulation"]);
}
