//! Chooses what is on the medium after a power cut, sector by sector and name by name.
//!
//! Per sector a number of changes is chosen, not a subset: a page cache has one version of a page, so an older write never survives
//! a newer one in the same sector. Between sectors there is no order.

use std::collections::HashMap;

use super::{Change, DiskState, FileState, NameChange, Names, Node, Random, parent};

/// How much of one file, or of the names, survives. Pure randomness would hardly ever keep all or nothing of a long list, which are
/// the most frequent cases.
enum Survival {
    Nothing,
    Everything,
    /// All changes up to a moment, and parts of the one in progress.
    InOrder,
    Anything,
}

impl Survival {
    fn choose(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::InOrder,
            _ => Self::Anything,
        }
    }
}

pub(super) fn choose(state: &DiskState, random: &mut Random) -> (Names, Vec<FileState>) {
    let names = names(state, random);
    let files = state.files.iter().map(|file| survivor(file, random)).collect();
    (names, files)
}

fn names(state: &DiskState, random: &mut Random) -> Names {
    let mut names = state.durable_names.clone();
    let survival = Survival::choose(random);
    let moment = random.below(state.unsynced_names.len() + 1);
    let mut lost: Vec<&NameChange> = Vec::new();
    for (at, change) in state.unsynced_names.iter().enumerate() {
        let survives = match survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::InOrder => at < moment,
            Survival::Anything => random.below(2) == 0,
        };
        if !survives {
            lost.push(change);
            continue;
        }
        // A directory that was created again is not the one that had the name before.
        if let NameChange::Make(path, Node::Dir) = change {
            let before = lost.iter().filter(|lost| matches!(lost, NameChange::Remove(gone) if gone == path));
            before.for_each(|removal| removal.apply(&mut names));
        }
        change.apply(&mut names);
    }
    // The content of a missing directory is missing. Parents sort before their children.
    let mut whole = Names::new();
    for (path, node) in names {
        let above = parent(&path);
        if path.file_name().is_none() || whole.get(above) == Some(&Node::Dir) {
            whole.insert(path, node);
        }
    }
    whole
}

fn survivor(file: &FileState, random: &mut Random) -> FileState {
    let content = if file.unsynced.is_empty() {
        file.durable.clone()
    } else {
        torn(file, random)
    };
    FileState {
        durable: content.clone(),
        content,
        unsynced: Vec::new(),
        reserved: file.reserved,
        cold: true,
        modified_ms: file.modified_ms,
    }
}

/// A change, split by sectors.
struct Step {
    sector: usize,
    start: usize,
    bytes: Vec<u8>,
    change: usize,
}

fn torn(file: &FileState, random: &mut Random) -> Vec<u8> {
    let sector_len = if random.below(2) == 0 { 512 } else { 4096 };
    let (steps, lengths) = steps(file, sector_len);
    let mut versions: HashMap<usize, usize> = HashMap::new();
    for step in &steps {
        *versions.entry(step.sector).or_default() += 1;
    }
    let survival = Survival::choose(random);
    let moment = random.below(file.unsynced.len() + 1);
    let mut sectors: Vec<usize> = versions.keys().copied().collect();
    sectors.sort_unstable();
    let kept: HashMap<usize, usize> = sectors
        .into_iter()
        .map(|sector| (sector, random.below(versions[&sector] + 1)))
        .collect();

    let longest = lengths.iter().copied().max().unwrap_or(0);
    let mut content = file.durable.clone();
    content.resize(longest.max(content.len()), 0);
    let mut seen: HashMap<usize, usize> = HashMap::new();
    for step in steps {
        let version = seen.entry(step.sector).or_default();
        *version += 1;
        let survives = match survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::InOrder => step.change < moment || (step.change == moment && random.below(2) == 0),
            Survival::Anything => *version <= kept[&step.sector],
        };
        if survives {
            content[step.start..step.start + step.bytes.len()].copy_from_slice(&step.bytes);
        }
    }
    let length = match survival {
        Survival::Nothing => lengths.first(),
        Survival::Everything => lengths.last(),
        Survival::InOrder => lengths.get(moment),
        Survival::Anything => lengths.get(random.below(lengths.len())),
    };
    content.truncate(length.copied().unwrap_or(0));
    content
}

/// The changes as steps within one sector each, and the file's lengths before the first and after each change.
fn steps(file: &FileState, sector_len: usize) -> (Vec<Step>, Vec<usize>) {
    let mut lengths = vec![file.durable.len()];
    let mut steps = Vec::new();
    let mut len = file.durable.len();
    for (change, what) in file.unsynced.iter().enumerate() {
        let (offset, bytes) = match what {
            Change::Write { offset, bytes } => {
                len = len.max(offset + bytes.len());
                (*offset, bytes.clone())
            }
            // Truncated bytes read as zeros when the file grows again.
            Change::SetLen(to) => {
                let cut = vec![0; len.saturating_sub(*to)];
                len = *to;
                (*to, cut)
            }
        };
        lengths.push(len);
        let mut done = 0;
        while done < bytes.len() {
            let start = offset + done;
            let sector = start / sector_len;
            let size = ((sector + 1) * sector_len - start).min(bytes.len() - done);
            steps.push(Step {
                sector,
                start,
                bytes: bytes[done..done + size].to_vec(),
                change,
            });
            done += size;
        }
    }
    (steps, lengths)
}
