//! Delay levels: the delay of a message for each level (`messageDelayLevel`).

use config::shape::{Refused, Shape};

/// Limit of the number of levels: each level has a queue of the schedule topic.
const MAX_LEVELS: usize = 255;
/// Longest delay of a level: ten years.
const MAX_DELAY_MS: i64 = 10 * 365 * DAY_MS;
const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// From large to small, for printing.
const UNITS: [(char, i64); 4] = [('d', DAY_MS), ('h', HOUR_MS), ('m', MINUTE_MS), ('s', SECOND_MS)];

/// The delay of each level; there is at least one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    delays_ms: Vec<i64>,
}

impl Default for Levels {
    /// Apache's 18 levels, from one second to two hours.
    fn default() -> Self {
        const SECONDS: [i64; 18] = [
            1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200,
        ];
        Self {
            delays_ms: SECONDS.map(|seconds| seconds * SECOND_MS).to_vec(),
        }
    }
}

impl Levels {
    /// The highest level.
    #[must_use]
    pub fn max(&self) -> i32 {
        self.delays_ms.len() as i32
    }

    /// All levels, from 1 on.
    pub fn all(&self) -> std::ops::RangeInclusive<i32> {
        1..=self.max()
    }

    /// The delay of a level in ms. A level above the highest counts as the highest, one below 1 as 1.
    #[must_use]
    pub fn delay_ms(&self, level: i32) -> i64 {
        self.delays_ms[level.clamp(1, self.max()) as usize - 1]
    }

    /// The delays in ms, starting with level 1.
    #[must_use]
    pub fn delays_ms(&self) -> &[i64] {
        &self.delays_ms
    }
}

/// The value type of [`Levels`] in settings.
#[derive(Clone, Copy, Debug)]
pub struct LevelsText;

/// Delays in Apache's format: `1s 5s 10m 2h 1d`, separated by one space.
#[must_use]
pub fn delay_levels() -> LevelsText {
    LevelsText
}

impl Shape<Levels> for LevelsText {
    fn kind(&self) -> String {
        "delays".to_owned()
    }

    fn allowed(&self) -> String {
        format!("1 to {MAX_LEVELS} numbers with a unit s, m, h or d, separated by one space, such as 1s 30s 5m 2h")
    }

    fn parse(&self, text: &str) -> Result<Levels, Refused> {
        let delays: Option<Vec<i64>> = text.split(' ').map(delay).collect();
        match delays {
            Some(delays_ms) if delays_ms.len() <= MAX_LEVELS => Ok(Levels { delays_ms }),
            _ => Err(Refused::NotAllowed),
        }
    }

    /// Accepts delays with other white space between them.
    fn fit(&self, text: &str) -> Option<Levels> {
        let delays: Vec<_> = text.split_whitespace().collect();
        self.parse(&delays.join(" ")).ok()
    }

    fn print(&self, value: &Levels) -> String {
        let delays: Vec<String> = value.delays_ms.iter().map(|delay| printed(*delay)).collect();
        delays.join(" ")
    }
}

fn delay(text: &str) -> Option<i64> {
    let unit = text.chars().next_back()?;
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let count: u32 = text[..text.len() - 1].parse().ok()?;
    let delay_ms = i64::from(count) * unit_ms;
    (delay_ms <= MAX_DELAY_MS).then_some(delay_ms)
}

fn printed(delay_ms: i64) -> String {
    let unit = UNITS.iter().find(|(_, ms)| delay_ms >= *ms && delay_ms % ms == 0);
    let (name, ms) = unit.unwrap_or(&('s', SECOND_MS));
    format!("{}{name}", delay_ms / ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APACHES: &str = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";

    #[test]
    fn apaches_levels_are_the_default() {
        assert_eq!(delay_levels().parse(APACHES), Ok(Levels::default()));
        assert_eq!(delay_levels().print(&Levels::default()), APACHES);
    }

    #[test]
    fn a_level_above_the_highest_counts_as_the_highest() {
        let levels = delay_levels().parse("0s 2m 1d").unwrap();
        assert_eq!((levels.max(), levels.delay_ms(1), levels.delay_ms(2)), (3, 0, 120_000));
        assert_eq!((levels.delay_ms(3), levels.delay_ms(i32::MAX)), (DAY_MS, DAY_MS));
        assert_eq!(delay_levels().print(&levels), "0s 2m 1d");
    }

    #[test]
    fn other_white_space_between_delays_is_accepted() {
        let levels = delay_levels().fit("1s  5s\t1h").unwrap();
        assert_eq!(delay_levels().print(&levels), "1s 5s 1h");
        assert_eq!(delay_levels().fit(" "), None);
    }

    #[test]
    fn invalid_lists_of_delays_are_refused() {
        let many = vec!["1s"; MAX_LEVELS + 1].join(" ");
        for text in [
            "",
            " ",
            "1",
            "s",
            "1s  2s",
            "1s,2s",
            "-1s",
            "1w",
            "99999999999s",
            "99999d",
            "1ä",
            &many,
        ] {
            assert_eq!(delay_levels().parse(text), Err(Refused::NotAllowed), "{text:?}");
        }
    }
}
