//! The known name nearest to an unknown one, for hints on typing errors.

/// The candidate that takes the fewest edits from `name` (letters added, dropped, changed, or two neighbours swapped; case does not
/// count), if that is at most a third of its letters. The first of several equally near ones.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = lowercase(name);
    let limit = (name.len() / 3).max(2);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other = lowercase(candidate);
            let plausible = other.len().abs_diff(name.len()) <= limit;
            plausible.then(|| (distance(&name, &other), candidate))
        })
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

fn lowercase(name: &str) -> Vec<char> {
    // Limited: a file may have names of any length, and the distance is quadratic.
    name.chars().take(128).map(|c| c.to_ascii_lowercase()).collect()
}

/// Edits between two names: three rows of the usual table.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut two_back = vec![0; b.len() + 1];
    let mut back: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = back[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = change.min(back[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(two_back[j - 2] + 1);
            }
        }
        two_back = std::mem::replace(&mut back, row);
    }
    back[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["brokerName", "brokerRole", "listenPort", "brokerClusterName"];

    #[test]
    fn a_typing_error_finds_the_name() {
        assert_eq!(nearest("brokerNmae", NAMES), Some("brokerName"));
        assert_eq!(nearest("listenport", NAMES), Some("listenPort"));
        assert_eq!(nearest("clusterName", NAMES), None);
        assert_eq!(nearest("brokerCluster", NAMES), Some("brokerClusterName"));
    }

    #[test]
    fn a_different_word_finds_nothing() {
        assert_eq!(nearest("zzz", NAMES), None);
        assert_eq!(nearest("", NAMES), None);
    }

    #[test]
    fn swapped_neighbours_are_one_edit() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&chars("abcd"), &chars("abdc")), 1);
        assert_eq!(distance(&chars("abc"), &chars("")), 3);
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
    }
}
