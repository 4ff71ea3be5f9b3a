//! How the queues of a topic are shared by the members of a group: Apache's strategies. Pure functions.

use protocol::MessageQueue;

/// How queues are shared by members that pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// Each member gets a run of queues.
    Average,
    /// Members get queues in turn.
    Circle,
}

impl Strategy {
    /// By its name in requests.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "AVG" => Some(Self::Average),
            "AVG_BY_CIRCLE" => Some(Self::Circle),
            _ => None,
        }
    }

    /// The queues of the member at this place. Both lists are sorted.
    fn of(self, member: usize, members: usize, queues: &[MessageQueue]) -> Vec<MessageQueue> {
        match self {
            Self::Circle => queues.iter().skip(member).step_by(members).cloned().collect(),
            Self::Average => {
                let (each, more) = (queues.len() / members, queues.len() % members);
                let start = member * each + member.min(more);
                let count = each + usize::from(member < more);
                queues.iter().skip(start).take(count).cloned().collect()
            }
        }
    }

    /// The queues of a member that pulls; none if it is not a member.
    pub(super) fn for_pull(self, member: &str, members: &[String], queues: &[MessageQueue]) -> Vec<MessageQueue> {
        let at = members.iter().position(|id| id == member);
        at.map_or_else(Vec::new, |at| self.of(at, members.len(), queues))
    }

    /// The queues of a member that pops. With `share` further members for each queue, it also gets those of the members after it;
    /// with 0 or less, or as many as there are, it pops from all queues of each broker (queue -1).
    pub(super) fn for_pop(self, member: &str, members: &[String], queues: &[MessageQueue], share: i32) -> Vec<MessageQueue> {
        let share = usize::try_from(share).unwrap_or(0);
        if share == 0 || share + 1 >= members.len() {
            let all = |queue: &MessageQueue| MessageQueue::new(queue.topic.as_str(), queue.broker_name.as_str(), -1);
            let mut brokers: Vec<MessageQueue> = queues.iter().map(all).collect();
            brokers.dedup();
            return brokers;
        }
        let Some(at) = members.iter().position(|id| id == member) else {
            return Vec::new();
        };
        if members.len() > queues.len() {
            // Each member gets one.
            return queues.get(at % queues.len().max(1)).cloned().into_iter().collect();
        }
        let after = (at..=at + share).map(|n| n % members.len());
        let mut assigned: Vec<MessageQueue> = after.flat_map(|n| self.of(n, members.len(), queues)).collect();
        assigned.sort();
        assigned.dedup();
        assigned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(count: i32) -> Vec<MessageQueue> {
        (0..count).map(|id| MessageQueue::new("t", "b", id)).collect()
    }

    fn members(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("m{n}")).collect()
    }

    fn ids(queues: &[MessageQueue]) -> Vec<i32> {
        queues.iter().map(|queue| queue.queue_id).collect()
    }

    #[test]
    fn every_queue_belongs_to_one_member() {
        for strategy in [Strategy::Average, Strategy::Circle] {
            for (count, most) in [(8, 3), (4, 4), (2, 5), (0, 2)] {
                let (queues, members) = (queues(count), members(most));
                let mut all: Vec<i32> = members
                    .iter()
                    .flat_map(|member| ids(&strategy.for_pull(member, &members, &queues)))
                    .collect();
                all.sort_unstable();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
            }
        }
        let (queues, members) = (queues(8), members(3));
        assert_eq!(ids(&Strategy::Average.for_pull("m1", &members, &queues)), [3, 4, 5]);
        assert_eq!(ids(&Strategy::Circle.for_pull("m1", &members, &queues)), [1, 4, 7]);
        assert!(Strategy::Average.for_pull("x", &members, &queues).is_empty());
        assert_eq!(Strategy::named("AVG_BY_CIRCLE"), Some(Strategy::Circle));
    }

    #[test]
    fn members_that_pop_share_queues() {
        let average = Strategy::Average;
        for share in [-1, 0, 3] {
            let all = average.for_pop("m0", &members(4), &queues(8), share);
            assert_eq!(ids(&all), [-1], "all queues of the broker, once");
        }
        assert_eq!(ids(&average.for_pop("m3", &members(4), &queues(8), 1)), [0, 1, 6, 7]);
        assert_eq!(ids(&average.for_pop("m3", &members(4), &queues(2), 1)), [1]);
        assert!(average.for_pop("x", &members(4), &queues(8), 1).is_empty());
    }
}
