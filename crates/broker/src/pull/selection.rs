//! Which messages a pull selects.

use crate::clients::{ClientChannel, Consumers};
use crate::filter::{Expression, TagFilter};
use crate::group::Rule;
use crate::topic::Topic;
use message::properties;
use message::record::Record;
use std::sync::Arc;

/// Which messages a pull selects.
pub(super) struct Filter {
    pub(super) selection: Selection,
    /// For a pull without its own subscription: that of its group, which may change while the pull is parked.
    pub(super) of_group: Option<GroupSubscription>,
}

/// How messages are selected.
pub(crate) enum Selection {
    /// By the hash of the tag in the queue entry.
    Tags(TagFilter),
    /// By the properties in the record.
    Content(Content),
}

/// The expression that is evaluated on the properties of a message.
pub(crate) enum Content {
    /// One expression for all messages.
    Expression(Arc<Expression>),
    /// `filterSupportRetry`: for messages of a retry topic, the expression that the group registered for their original topic.
    OfFirstTopic {
        consumers: Arc<Consumers<ClientChannel>>,
        group: Box<str>,
    },
}

/// Where to find the subscription of a pull's group.
pub(super) struct GroupSubscription {
    pub(super) consumers: Arc<Consumers<ClientChannel>>,
    pub(super) group: Arc<Rule>,
    pub(super) topic: Arc<Topic>,
}

impl Filter {
    /// Hashes of the tags that are selected, sorted; `None` for all messages, and for a selection by content.
    pub(super) fn tags(&self) -> Option<&[i32]> {
        match &self.selection {
            Selection::Tags(filter) => filter.codes(),
            Selection::Content(_) => None,
        }
    }

    pub(super) fn is_by_content(&self) -> bool {
        matches!(self.selection, Selection::Content(_))
    }

    /// Whether the group's subscription changed. Then the pull has to be repeated: its client would filter the messages by the tags
    /// of the old subscription and drop those that only the new one matches.
    pub(super) fn is_outdated(&self) -> bool {
        let Some(of) = &self.of_group else { return false };
        let view = of.consumers.view(&of.group.group_name);
        let known = view.as_ref().and_then(|view| view.subscriptions.get(&of.topic.name));
        let Some(known) = known else { return false };
        match &self.selection {
            Selection::Tags(filter) => !known.is_by_tags() || known.filter != *filter,
            Selection::Content(_) if known.is_by_tags() => true,
            Selection::Content(Content::Expression(expression)) => {
                let registered = of.consumers.filters().find(&of.group.group_name, &of.topic.name);
                registered.is_none_or(|registered| !Arc::ptr_eq(&registered.expression, expression))
            }
            Selection::Content(Content::OfFirstTopic { .. }) => false,
        }
    }
}

impl Content {
    /// Whether the message of this record is selected. A malformed record is, so that its consumer sees it.
    pub(crate) fn selects(&self, record: &[u8]) -> bool {
        let Ok(record) = Record::parse(record) else { return true };
        match self {
            Self::Expression(expression) => expression.selects(record.properties),
            Self::OfFirstTopic { consumers, group } => {
                let topic = properties::text(record.properties, properties::RETRY_TOPIC);
                let registered = topic.and_then(|topic| consumers.filters().find(group, &topic));
                // Compat: all messages of a topic without an expression.
                registered.is_none_or(|registered| registered.expression.selects(record.properties))
            }
        }
    }
}
