//! The `config/*.json` files. A crash while one is written leaves the old or the new content; readers fall back to `.bak`.
//!
//! A file is written as `.tmp` and synced, then the old file becomes `.bak` and the new one takes its name. A reader that does not
//! find a good file uses the `.bak`, and reports that. A damaged file is renamed to `.bad`, so that the next write does not replace
//! the good `.bak` by it.
//!
//! A file is damaged if it cannot be parsed, is not a JSON object, is empty, or has only NUL bytes (a file system that lost power
//! before it wrote the content leaves the last two). NUL bytes behind a whole content are ignored. Only if the file and its `.bak`
//! do not exist, the store is new.
//!
//! Not here: the content of the files, and what a caller does without one.

use std::fmt::Display;
use std::io;
use std::path::Path;

use crate::disk::{Disk, if_exists, parent, with_suffix};

/// Where a content came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file itself.
    Main,
    /// The `.bak` file. The last change before the stop may be missing.
    Backup {
        /// What is wrong with the file itself.
        why: String,
    },
    /// Neither exists.
    Absent,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file or its `.bak` exists, and neither can be used; both are left unchanged. An empty table would lose what an operator
    /// can still repair.
    #[error("{0}")]
    Damaged(String),
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What is damaged in a content before it is parsed; `None` if it may be good.
#[must_use]
pub fn damage(content: &[u8]) -> Option<&'static str> {
    if content.is_empty() {
        Some("it is empty")
    } else if content.iter().all(|byte| *byte == 0) {
        Some("it has only NUL bytes")
    } else if content.trim_ascii_start().first() != Some(&b'{') {
        Some("it does not begin with a brace")
    } else {
        None
    }
}

/// The content without trailing NUL bytes.
#[must_use]
pub fn without_nul_tail(content: &[u8]) -> &[u8] {
    let len = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &content[..len]
}

/// Reads a file, or its `.bak` if the file cannot be used. `parse` converts the bytes or says what is wrong with them. `None` if
/// neither exists, as in a new store.
///
/// # Errors
/// [`ReadError::Damaged`] if the file and its backup exist and neither can be used. [`ReadError::Io`] if they cannot be read.
pub fn read<T, E: Display>(disk: &dyn Disk, path: &Path, parse: impl Fn(&[u8]) -> Result<T, E>) -> Result<(Option<T>, Source), ReadError> {
    let judge = |bytes: &[u8]| match damage(bytes) {
        Some(why) => Err(why.to_owned()),
        None => parse(without_nul_tail(bytes)).map_err(|error| error.to_string()),
    };
    let main = if_exists(disk.read(path))?;
    let why = match main.as_deref().map(judge) {
        Some(Ok(value)) => return Ok((Some(value), Source::Main)),
        Some(Err(why)) => why,
        None => "it is missing".to_owned(),
    };
    let backup = with_suffix(path, ".bak");
    let damaged = |more: String| ReadError::Damaged(format!("{}: {why}; {more}", path.display()));
    let value = match if_exists(disk.read(&backup))?.as_deref().map(judge) {
        Some(Ok(value)) => value,
        Some(Err(error)) => return Err(damaged(format!("{} cannot take its place: {error}", backup.display()))),
        None if main.is_some() => return Err(damaged("there is no .bak".to_owned())),
        None => return Ok((None, Source::Absent)),
    };
    if main.is_some() {
        disk.rename(path, &with_suffix(path, ".bad"))?;
    }
    tracing::warn!(file = %path.display(), why, "the .bak file is used in its place; what was changed last may be missing");
    Ok((Some(value), Source::Backup { why }))
}

/// Renames a damaged file to `.bad`, and a damaged `.bak` to `.bak.bad`, so that a new file can be written without losing them.
///
/// # Errors
/// [`io::Error`] if a file cannot be renamed or the directory cannot be synced.
pub fn set_aside(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    for damaged in [path.to_owned(), with_suffix(path, ".bak")] {
        if disk.exists(&damaged)? {
            disk.rename(&damaged, &with_suffix(&damaged, ".bad"))?;
        }
    }
    disk.sync_dir(parent(path))
}

/// Writes a file and syncs it; the previous content becomes `.bak`. Creates the directory if it does not exist.
///
/// # Errors
/// [`io::Error`] if the file cannot be written; a reader finds the old or the new content then.
pub fn write(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    disk.create_dir_all(parent(path))?;
    disk.replace(path, content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OpenMode;
    use crate::disk::simulated::{Fault, Lasts, SimulatedDisk};

    const PATH: &str = "/s/config/topics.json";

    fn path() -> &'static Path {
        Path::new(PATH)
    }

    fn get(disk: &SimulatedDisk) -> Result<(Option<serde_json::Value>, Source), ReadError> {
        read(disk, path(), |bytes| serde_json::from_slice(bytes))
    }

    fn put_raw(disk: &SimulatedDisk, path: &Path, content: &[u8]) {
        let file = disk.open(path, OpenMode::WriteOrCreate).unwrap();
        file.set_len(0).unwrap();
        file.write_at(content, 0).unwrap();
    }

    fn two_generations() -> SimulatedDisk {
        let disk = SimulatedDisk::new(1);
        write(&disk, path(), b"{\"v\":1}").unwrap();
        write(&disk, path(), b"{\"v\":2}").unwrap();
        disk
    }

    #[test]
    fn new_store_has_nothing_and_what_is_written_is_read() {
        let disk = SimulatedDisk::new(1);
        assert_eq!(get(&disk).unwrap(), (None, Source::Absent));
        let disk = two_generations();
        let (value, source) = get(&disk).unwrap();
        assert_eq!((value.unwrap()["v"].as_i64(), source), (Some(2), Source::Main));
    }

    #[test]
    fn missing_empty_and_damaged_files_give_way_to_the_backup_with_the_reason() {
        let disk = two_generations();
        disk.remove_file(path()).unwrap();
        let (value, source) = get(&disk).unwrap();
        assert_eq!(
            (value.unwrap()["v"].as_i64(), source),
            (
                Some(1),
                Source::Backup {
                    why: "it is missing".to_owned()
                }
            )
        );

        let disk = two_generations();
        put_raw(&disk, path(), b"");
        assert_eq!(
            get(&disk).unwrap().1,
            Source::Backup {
                why: "it is empty".to_owned()
            }
        );

        let disk = two_generations();
        put_raw(&disk, path(), b"{\"v\":");
        let (value, Source::Backup { why }) = get(&disk).unwrap() else {
            panic!("main was used")
        };
        assert_eq!(value.unwrap()["v"].as_i64(), Some(1));
        assert!(why.contains("EOF"), "{why}");
        write(&disk, path(), b"{\"v\":3}").unwrap();
        assert_eq!(
            disk.read(&with_suffix(path(), ".bak")).unwrap(),
            b"{\"v\":1}",
            "the damaged file does not replace the good one"
        );
        assert_eq!(disk.read(&with_suffix(path(), ".bad")).unwrap(), b"{\"v\":");
    }

    /// What a crash or an operator leaves of a file. `None`: nothing.
    const DAMAGE: [(&str, Option<&[u8]>); 7] = [
        ("a list", Some(b" []")),
        ("missing", None),
        ("empty", Some(b"")),
        ("NUL", Some(&[0; 120])),
        ("cut", Some(b"{\"v\":")),
        ("nonsense", Some(b"nonsense")),
        ("cut, and NUL behind", Some(b"{\"v\":\0\0\0")),
    ];

    #[test]
    fn a_whole_content_with_nul_bytes_behind_it_is_read() {
        let disk = two_generations();
        put_raw(&disk, path(), b"{\"v\":2}\0\0\0");
        let (value, source) = get(&disk).unwrap();
        assert_eq!((value.unwrap()["v"].as_i64(), source), (Some(2), Source::Main));
    }

    #[test]
    fn no_kind_of_damage_to_file_and_backup_is_an_empty_table() {
        let put = |disk: &SimulatedDisk, path: &Path, content: Option<&[u8]>| match content {
            Some(content) => put_raw(disk, path, content),
            None => disk.remove_file(path).unwrap(),
        };
        let backup = with_suffix(path(), ".bak");
        for (main_is, main) in DAMAGE {
            let disk = two_generations();
            put(&disk, path(), main);
            let (value, source) = get(&disk).unwrap();
            assert_eq!(value.unwrap()["v"].as_i64(), Some(1), "{main_is}, with a good backup");
            assert!(matches!(source, Source::Backup { .. }), "{main_is}");
            for (backup_is, spare) in DAMAGE {
                let disk = two_generations();
                put(&disk, path(), main);
                put(&disk, &backup, spare);
                if main.is_none() && spare.is_none() {
                    assert_eq!(get(&disk).unwrap(), (None, Source::Absent));
                    continue;
                }
                let Err(ReadError::Damaged(text)) = get(&disk) else {
                    panic!("{main_is} with a backup that is {backup_is} was read")
                };
                assert!(text.contains(PATH), "{text}");
                assert_eq!(
                    (disk.read(path()).ok(), disk.read(&backup).ok()),
                    (main.map(<[u8]>::to_vec), spare.map(<[u8]>::to_vec))
                );
                set_aside(&disk, path()).unwrap();
                assert_eq!(get(&disk).unwrap(), (None, Source::Absent));
                assert_eq!(disk.read(&with_suffix(path(), ".bad")).ok().as_deref(), main, "nothing is lost");
                write(&disk, path(), b"{\"v\":9}").unwrap();
                assert_eq!(disk.read(&with_suffix(&backup, ".bad")).ok().as_deref(), spare, "nothing is lost");
            }
        }
    }

    #[test]
    fn cut_or_fault_at_any_call_of_a_write_leaves_the_old_or_the_new_content() {
        let whole = two_generations();
        let before = whole.calls();
        write(&whole, path(), b"{\"v\":3}").unwrap();
        for n in 1..=whole.calls() - before {
            let disk = two_generations();
            disk.fail_at(disk.calls() + n, Fault::NoSpace, Lasts::Once);
            assert!(write(&disk, path(), b"{\"v\":3}").is_err());
            let version = |disk: &SimulatedDisk| get(disk).unwrap().0.unwrap()["v"].as_i64().unwrap();
            assert!([2, 3].contains(&version(&disk)), "fault {n}");
            write(&disk, path(), b"{\"v\":4}").unwrap();
            assert_eq!(version(&disk), 4);

            let disk = two_generations();
            disk.cut_at(disk.calls() + n);
            assert!(write(&disk, path(), b"{\"v\":3}").is_err());
            for seed in 0..50 {
                assert!([2, 3].contains(&version(&disk.power_cut(seed))), "cut {n}, seed {seed}");
            }
        }
        for seed in 0..50 {
            assert_eq!(get(&whole.power_cut(seed)).unwrap().1, Source::Main);
        }
    }
}
