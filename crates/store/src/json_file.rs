//! The `config/*.json` files: written so that a crash leaves the old or the new content, read with a fall back to `.bak`.
//!
//! A file is written as `.tmp`, synced, then the one before becomes `.bak` and the new one takes its name. A reader who
//! does not find a good main file takes the `.bak`, and says so. A main file that cannot be parsed is moved aside to
//! `.bad`, so that it neither gets in the way nor takes the place of the good `.bak` at the next writing.
//!
//! Not here: what is in the files.

use std::fmt::Display;
use std::io;
use std::path::Path;

use crate::disk::{Disk, parent, with_suffix};

/// Where a content came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file itself.
    Main,
    /// The `.bak` file, for the reason given: what was changed last before the stop may be missing.
    Backup {
        /// What was wrong with the file itself.
        why: String,
    },
    /// There is neither.
    Absent,
}

/// Reads a file; `parse` makes something of its bytes or says what is wrong with them. `None` when there is neither the
/// file nor its `.bak`, as in a new store.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when what there is cannot be parsed: starting empty would lose what an operator can still
/// save. Else whatever the machine says.
pub fn read<T, E: Display>(disk: &dyn Disk, path: &Path, parse: impl Fn(&[u8]) -> Result<T, E>) -> io::Result<(Option<T>, Source)> {
    let why = match content(disk, path)? {
        Some(bytes) if bytes.is_empty() => "it is empty".to_owned(),
        Some(bytes) => match parse(&bytes) {
            Ok(value) => return Ok((Some(value), Source::Main)),
            Err(error) => error.to_string(),
        },
        None => "it is missing".to_owned(),
    };
    let is_damaged = why != "it is missing" && why != "it is empty";
    let backup = with_suffix(path, ".bak");
    let bytes = content(disk, &backup)?.filter(|bytes| !bytes.is_empty());
    let value = match bytes.map(|bytes| parse(&bytes)) {
        Some(Ok(value)) => value,
        Some(Err(error)) => return Err(bad(path, &why, &format!("{} cannot take its place: {error}", backup.display()))),
        None if is_damaged => return Err(bad(path, &why, "there is no .bak")),
        None => return Ok((None, Source::Absent)),
    };
    if is_damaged {
        disk.rename(path, &with_suffix(path, ".bad"))?;
    }
    tracing::warn!(file = %path.display(), why, "the .bak file is used in its place; what was changed last may be missing");
    Ok((Some(value), Source::Backup { why }))
}

fn bad(path: &Path, why: &str, more: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}; {more}", path.display()))
}

fn content(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file; when this returns the content is on the disk, and the one before is `.bak`. The directory is made when
/// absent.
///
/// # Errors
/// Whatever the machine says; a reader finds the old or the new content then.
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

    fn get(disk: &SimulatedDisk) -> io::Result<(Option<serde_json::Value>, Source)> {
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

    #[test]
    fn damage_without_a_good_backup_is_an_error_and_not_an_empty_store() {
        let disk = two_generations();
        put_raw(&disk, path(), b"nonsense");
        put_raw(&disk, &with_suffix(path(), ".bak"), b"{");
        let error = get(&disk).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("topics.json.bak cannot take its place"), "{error}");
        disk.remove_file(&with_suffix(path(), ".bak")).unwrap();
        assert!(get(&disk).unwrap_err().to_string().contains("there is no .bak"));
        assert!(disk.exists(path()).unwrap());
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
