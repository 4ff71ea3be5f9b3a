//! Which part of the log was written under which master: epochs, each with the log offset where it begins.
//!
//! Two logs of one broker name are equal up to the end of the last epoch that both have with the same beginning. A master begins an epoch at
//! its log's end before it takes the first message; a replica learns of it before the first record of it.
//!
//! Compat: the file `epochFileCheckpoint` is Apache's (`CheckpointFile`): a line with the number of epochs, one with the CRC-32 of the lines
//! after it without its highest bit, or 0, then a line `EPOCH-BEGINNING` for each.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use store::disk::{Disk, if_exists, with_suffix};

/// Maximum epochs that are kept: older ones are forgotten, from the oldest on. Compat: Apache's master sends at most 1,000.
pub(crate) const MAX_EPOCHS: usize = 1_000;

/// An epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number.
    pub number: i32,
    /// Log offset of its first record.
    pub begin: i64,
}

/// Why a log is none of a master's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unaligned {
    /// It was written without a controller.
    WithoutEpoch,
    /// No epoch is in both.
    NothingInCommon,
    /// They part here, before the first record that this log still has.
    TooOld(i64),
}

/// Epochs in order: numbers and beginnings grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs(Vec<Epoch>);

impl Epochs {
    /// From the oldest to the newest.
    #[must_use]
    pub fn all(&self) -> &[Epoch] {
        &self.0
    }

    /// The newest.
    #[must_use]
    pub fn last(&self) -> Option<Epoch> {
        self.0.last().copied()
    }

    /// Those of a peer. `None` if they do not grow.
    #[must_use]
    pub fn from_peer(epochs: Vec<Epoch>) -> Option<Self> {
        epochs
            .windows(2)
            .all(|pair| pair[0].number < pair[1].number && pair[0].begin <= pair[1].begin)
            .then_some(Self(epochs))
    }

    /// The epoch of the record at this offset, and where the next one begins. An offset before the first epoch counts to it.
    #[must_use]
    pub fn at(&self, offset: i64) -> Option<(Epoch, Option<i64>)> {
        let after = self.0.partition_point(|epoch| epoch.begin <= offset);
        let index = after.saturating_sub(1);
        let epoch = *self.0.get(index)?;
        Some((epoch, self.0.get(index + 1).map(|next| next.begin)))
    }

    /// Begins an epoch at the log's end. One that has no record yet gives way to it. False if the number is not a new one.
    pub fn begin(&mut self, number: i32, end: i64) -> bool {
        if self.last().is_some_and(|last| last.number >= number) {
            return false;
        }
        self.0.retain(|epoch| epoch.begin < end);
        self.0.push(Epoch { number, begin: end });
        let old = self.0.len().saturating_sub(MAX_EPOCHS);
        self.0.drain(..old);
        true
    }

    /// Begins the epoch of a master whose log is from `first` to `end`, or goes on with it. Returns where it begins. A log that was written without
    /// a controller belongs to the first epoch.
    pub fn begin_as_master(&mut self, number: i32, first: i64, end: i64) -> i64 {
        match self.last() {
            Some(last) if last.number == number => last.begin,
            last => {
                let begin = if last.is_some() { end } else { first };
                self.drop_before(first);
                self.begin(number, begin);
                begin
            }
        }
    }

    /// The master sends records of this epoch next. False if it is not the next one of this log, nor known.
    pub fn learn(&mut self, epoch: Epoch) -> bool {
        self.0.contains(&epoch) || self.begin(epoch.number, epoch.begin)
    }

    /// Where a slave cuts its log, from `first` to `end`, back to, because it is the master's up to there.
    ///
    /// # Errors
    /// [`Unaligned`] if it is none of the master's.
    pub fn cut(&self, first: i64, end: i64, master: &Self, master_end: i64) -> Result<i64, Unaligned> {
        if end == first {
            return Ok(end);
        }
        if self.0.is_empty() {
            return Err(Unaligned::WithoutEpoch);
        }
        let common = self.common_end(end, master, master_end).ok_or(Unaligned::NothingInCommon)?;
        if common < first {
            return Err(Unaligned::TooOld(common));
        }
        Ok(common)
    }

    /// The log is from `first` to `end` after a cut.
    pub fn is_cut(&mut self, first: i64, end: i64) {
        if end == first {
            // Nothing is copied yet.
            self.0.clear();
        }
        self.truncate(end);
        self.drop_before(first);
    }

    /// The log ends at `end` from now on: epochs that begin there or later are forgotten.
    pub fn truncate(&mut self, end: i64) {
        self.0.retain(|epoch| epoch.begin < end);
    }

    /// The log begins at `begin` now: epochs that end before are forgotten.
    pub fn drop_before(&mut self, begin: i64) {
        let ended = self.0.windows(2).take_while(|pair| pair[1].begin <= begin).count();
        self.0.drain(..ended);
    }

    /// Up to where this log, which ends at `end`, is equal to one with `other` epochs that ends at `other_end`. `None` if no epoch is in
    /// both. A log without epochs has nothing in common with another one but its beginning.
    #[must_use]
    pub fn common_end(&self, end: i64, other: &Self, other_end: i64) -> Option<i64> {
        let end_of = |epochs: &[Epoch], index: usize, end: i64| epochs.get(index + 1).map_or(end, |next| next.begin.min(end));
        self.0.iter().enumerate().rev().find_map(|(index, epoch)| {
            let there = other.0.iter().position(|candidate| candidate == epoch)?;
            let common = end_of(&self.0, index, end).min(end_of(&other.0, there, other_end));
            Some(common)
        })
    }

    fn to_text(&self) -> String {
        let mut lines = String::new();
        for Epoch { number, begin } in &self.0 {
            // A String takes everything.
            let _ = writeln!(lines, "{number}-{begin}");
        }
        format!("{}\n{}\n{lines}", self.0.len(), checksum(&lines))
    }

    fn parse(text: &str) -> Option<Self> {
        let (count, rest) = text.split_once('\n')?;
        let (sum, lines) = rest.split_once('\n')?;
        let (count, sum): (usize, u32) = (count.trim().parse().ok()?, sum.trim().parse().ok()?);
        let epochs: Vec<Epoch> = lines.lines().map(parse_line).collect::<Option<_>>()?;
        let is_whole = epochs.len() == count && (sum == 0 || sum == checksum(lines));
        is_whole.then_some(epochs).and_then(Self::from_peer)
    }
}

fn checksum(lines: &str) -> u32 {
    crc32fast::hash(lines.as_bytes()) & 0x7fff_ffff
}

fn parse_line(line: &str) -> Option<Epoch> {
    let (number, begin) = line.split_once('-')?;
    Some(Epoch {
        number: number.parse().ok()?,
        begin: begin.parse().ok()?,
    })
}

/// The epochs of this log, in their file. Changes are on the device when a function returns.
pub struct EpochFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    epochs: Mutex<Epochs>,
}

impl std::fmt::Debug for EpochFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EpochFile({})", self.path.display())
    }
}

impl EpochFile {
    /// Reads the file; without one there are no epochs.
    ///
    /// # Errors
    /// [`io::Error`] if it cannot be read, or is damaged, with its `.bak`, too.
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> io::Result<Self> {
        let read = |path: &Path| -> io::Result<Option<Epochs>> {
            let Some(bytes) = if_exists(disk.read(path))? else {
                return Ok(None);
            };
            let epochs = std::str::from_utf8(&bytes).ok().and_then(Epochs::parse);
            epochs.map(Some).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "{} is damaged; restore it, or start this broker with an empty directory, so that it copies its master",
                        path.display()
                    ),
                )
            })
        };
        let backup = with_suffix(path, ".bak");
        let epochs = match read(path) {
            Ok(Some(epochs)) => epochs,
            Ok(None) => read(&backup)?.unwrap_or_default(),
            // The backup lacks the last change: an epoch that is unknown is asked for again, or cut off.
            Err(damaged) => read(&backup)?.ok_or(damaged)?,
        };
        Ok(Self {
            disk,
            path: path.to_owned(),
            epochs: Mutex::new(epochs),
        })
    }

    /// The epochs.
    #[must_use]
    pub fn epochs(&self) -> Epochs {
        self.epochs.lock().clone()
    }

    /// Changes the epochs, and writes them if they are others then. Returns what `change` does.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be written; the epochs are as before then.
    pub fn change<T>(&self, change: impl FnOnce(&mut Epochs) -> T) -> io::Result<T> {
        let mut epochs = self.epochs.lock();
        let mut changed = epochs.clone();
        let result = change(&mut changed);
        if changed != *epochs {
            self.disk.replace(&self.path, changed.to_text().as_bytes())?;
            *epochs = changed;
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use store::disk::simulated::SimulatedDisk;

    fn epochs(all: &[(i32, i64)]) -> Epochs {
        Epochs::from_peer(
            all.iter()
                .map(|(number, begin)| Epoch {
                    number: *number,
                    begin: *begin,
                })
                .collect(),
        )
        .unwrap()
    }

    #[test]
    fn logs_are_equal_to_the_end_of_the_last_common_epoch() {
        let master = epochs(&[(1, 0), (2, 100), (4, 250)]);
        let cases = [
            // A replica that lags in the newest epoch, and one that is as far.
            (vec![(1, 0), (2, 100), (4, 250)], 300, Some(300)),
            (vec![(1, 0), (2, 100), (4, 250)], 500, Some(400)),
            // The old master went on in epoch 2 after the new one had begun 4.
            (vec![(1, 0), (2, 100)], 300, Some(250)),
            // It began an epoch of its own at another place.
            (vec![(1, 0), (2, 100), (3, 200)], 300, Some(200)),
            (vec![(1, 0), (3, 90)], 300, Some(90)),
            (vec![(7, 10)], 300, None),
            (vec![], 0, None),
        ];
        for (replica, end, common) in cases {
            assert_eq!(epochs(&replica).common_end(end, &master, 400), common, "{replica:?}");
        }
    }

    #[test]
    fn an_epoch_without_records_gives_way_to_the_next() {
        let mut all = epochs(&[(1, 0)]);
        assert!(all.begin(2, 100) && all.begin(3, 100) && !all.begin(3, 200));
        assert_eq!(all, epochs(&[(1, 0), (3, 100)]));
        assert_eq!(all.at(99), Some((Epoch { number: 1, begin: 0 }, Some(100))));
        assert_eq!(all.at(100), Some((Epoch { number: 3, begin: 100 }, None)));
        all.truncate(100);
        assert_eq!(all, epochs(&[(1, 0)]));
        let mut all = epochs(&[(1, 0), (2, 50), (3, 100)]);
        all.drop_before(60);
        assert_eq!(all, epochs(&[(2, 50), (3, 100)]));
    }

    #[test]
    fn the_file_is_apaches() {
        let disk = SimulatedDisk::new(1);
        let path = Path::new("/store/epochFileCheckpoint");
        disk.create_dir_all(Path::new("/store")).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let file = EpochFile::open(disk.clone(), path).unwrap();
        file.change(|epochs| epochs.begin(7, 7_000) && epochs.begin(8, 8_000)).unwrap();
        let text = String::from_utf8(disk.read(path).unwrap()).unwrap();
        // As in the example of Apache's CheckpointFile.
        assert_eq!(text, "2\n773307083\n7-7000\n8-8000\n");
        assert_eq!(
            EpochFile::open(disk.clone(), path).unwrap().epochs(),
            epochs(&[(7, 7_000), (8, 8_000)])
        );
        disk.replace(path, b"2\n12\n7-7000\n8-8000\n").unwrap();
        disk.replace(path, b"3\n0\n7-7000\n8-8000\n").unwrap();
        assert!(EpochFile::open(disk, path).is_err(), "neither the file nor its backup is whole");
    }

    proptest! {
        #[test]
        fn text_is_read_back_and_garbage_is_not_taken(numbers in prop::collection::btree_map(0i32..1_000, 0i64..1 << 40, 0..20), junk in ".*") {
            let mut begins: Vec<i64> = numbers.values().copied().collect();
            begins.sort_unstable();
            let all = numbers.keys().zip(begins).map(|(number, begin)| Epoch { number: *number, begin }).collect();
            let all = Epochs::from_peer(all).unwrap();
            prop_assert_eq!(Epochs::parse(&all.to_text()), Some(all));
            let _ = Epochs::parse(&junk);
        }

        /// Two logs that grew from one, each with epochs of its own: the common end is where they part, or before it.
        #[test]
        fn what_is_common_is_equal(shared in 1usize..6, own in prop::array::uniform2(prop::collection::vec(1i64..50, 0..5))) {
            let mut logs: [Vec<i32>; 2] = Default::default();
            let mut all = [Epochs::default(), Epochs::default()];
            for number in 1..=shared as i32 {
                for (log, epochs) in logs.iter_mut().zip(&mut all) {
                    prop_assert!(epochs.begin(number, log.len() as i64));
                    log.extend([number; 10]);
                }
            }
            for (side, lengths) in own.iter().enumerate() {
                for (index, length) in lengths.iter().enumerate() {
                    // Numbers of one side are no numbers of the other: an epoch has one master.
                    let number = 100 + 2 * index as i32 + side as i32;
                    prop_assert!(all[side].begin(number, logs[side].len() as i64));
                    logs[side].extend(std::iter::repeat_n(number, *length as usize));
                }
            }
            let [left, right] = &logs;
            let common = all[0].common_end(left.len() as i64, &all[1], right.len() as i64).unwrap();
            let parts = left.iter().zip(right).take_while(|(a, b)| a == b).count() as i64;
            prop_assert_eq!(common, parts);
        }
    }
}
