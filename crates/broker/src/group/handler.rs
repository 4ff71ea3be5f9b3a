//! Codes 200, 201, 207, 225, 352 and 353.
//!
//! The answers to 200, 207 and 225 should leave when the change is settled, see [`crate::signal::Signal::when_settled`].

use super::{GroupError, Groups, Rule, table};
use crate::errors::Refusal;
use crate::reply::{Answer, Outcome};
use crate::topic::handler::page;
use message::names;
use protocol::group::{AllGroupConfigHeader, DeleteGroupHeader, GroupConfigList, GroupForbidden, GroupForbiddenHeader, GroupHeader};
use protocol::{Frame, ResponseCode, json};

impl From<GroupError> for Refusal {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Name(error) => error.into(),
            other => Self::system(other.to_string()),
        }
    }
}

impl GroupError {
    /// What a request for a group is refused with: that the group is not there (26), with this text, else as any other error. A name that
    /// is none is of a group that is not there.
    pub fn into_refusal(self, missing: impl FnOnce(&Self) -> String) -> Refusal {
        match self {
            Self::Missing | Self::Name(_) => Refusal::new(ResponseCode::SubscriptionGroupNotExist, missing(&self)),
            other => other.into(),
        }
    }
}

/// Code 200: makes a group or changes it.
///
/// # Errors
/// The body is malformed, the name not allowed, or there are too many groups.
pub fn create(request: &Frame, groups: &Groups, now_ms: i64) -> Outcome {
    // As in Apache, nothing asked is nothing to do.
    if request.body.is_empty() {
        return Ok(Answer::ok());
    }
    let rule: Rule = json::read(&request.body)?;
    set(vec![rule], groups, now_ms)
}

/// Code 225: makes or changes several groups, all or none.
///
/// # Errors
/// As [`create`], for any of them.
pub fn create_list(request: &Frame, groups: &Groups, now_ms: i64) -> Outcome {
    let asked: GroupConfigList = json::read(&request.body)?;
    set(asked.group_config_list, groups, now_ms)
}

fn set(rules: Vec<Rule>, groups: &Groups, now_ms: i64) -> Outcome {
    for rule in &rules {
        names::check_group(&rule.group_name)?;
    }
    groups.update(rules, now_ms)?;
    Ok(Answer::ok())
}

/// Code 201: all groups, or a page of them.
///
/// # Errors
/// A field is malformed.
pub fn all(request: &Frame, groups: &Groups) -> Outcome {
    let asked = AllGroupConfigHeader::decode(&request.ext)?;
    let mut body = table::configs(groups);
    let total = i32::try_from(body.subscription_group_table.len()).unwrap_or(i32::MAX);
    body.subscription_group_table = page(
        body.subscription_group_table,
        &body.data_version,
        asked.data_version,
        asked.group_seq,
        asked.max_group_num,
    );
    let shown = &body.subscription_group_table;
    body.forbidden_table.retain(|group, _| shown.contains_key(group));
    Ok(Answer::body(json::write(&body)).with("totalGroupNum", total))
}

/// Code 207: deletes a group with all that is known of it, which `forget` does, with its offsets when asked.
///
/// # Errors
/// A field is missing.
pub fn delete(request: &Frame, groups: &Groups, forget: impl FnOnce(&str, bool), now_ms: i64) -> Outcome {
    let asked = DeleteGroupHeader::decode(&request.ext)?;
    groups.remove(asked.group_name, now_ms);
    forget(asked.group_name, asked.clean_offset);
    Ok(Answer::ok())
}

/// Code 352: one group's configuration. Apache makes the group when it may, and so do we.
///
/// # Errors
/// There is no such group and it may not be made.
pub fn get(request: &Frame, groups: &Groups, auto_create: bool, now_ms: i64) -> Outcome {
    let group = GroupHeader::decode(&request.ext)?.group;
    let rule = groups.find_or_create(group, auto_create, now_ms);
    let rule = rule.map_err(|error| error.into_refusal(|_| format!("No group in this broker. group: {group}")))?;
    Ok(Answer::body(json::write(&*rule)))
}

/// Code 353: forbids or allows a group to read a topic, or only tells.
///
/// # Errors
/// A field is missing, a name is none, or too much is forbidden.
pub fn forbid(request: &Frame, groups: &Groups, now_ms: i64) -> Outcome {
    let asked = GroupForbiddenHeader::decode(&request.ext)?;
    if let Some(readable) = asked.readable {
        groups.forbid_reading(asked.group, asked.topic, !readable, now_ms)?;
    }
    let body = GroupForbidden {
        group: asked.group.to_owned(),
        topic: asked.topic.to_owned(),
        readable: Some(!groups.is_reading_forbidden(asked.group, asked.topic)),
    };
    Ok(Answer::body(json::write(&body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::Feature;
    use crate::offset::Offsets;
    use protocol::RequestCode;
    use std::sync::Arc;

    fn groups() -> Groups {
        Groups::new(Default::default(), Arc::default(), 0)
    }

    fn with_body(body: &str) -> Frame {
        let mut frame = Frame::request(RequestCode::UpdateAndCreateSubscriptiongroup);
        frame.body = body.as_bytes().to_vec().into();
        frame
    }

    #[test]
    fn a_group_is_made_told_and_deleted() {
        let groups = groups();
        create(&with_body(r#"{"groupName":"g","retryMaxTimes":3}"#), &groups, 1).unwrap();
        assert_eq!(groups.find("g").unwrap().retry_max_times, 3);
        let mut frame = Frame::request(RequestCode::GetSubscriptiongroupConfig);
        frame.ext.push("group", "g");
        let text = String::from_utf8(get(&frame, &groups, false, 2).unwrap().body.to_vec()).unwrap();
        assert!(text.contains("\"retryMaxTimes\":3"), "{text}");
        let mut frame = Frame::request(RequestCode::DeleteSubscriptiongroup);
        frame.ext.push("groupName", "g");
        frame.ext.push("cleanOffset", true);
        let offsets = Offsets::new(Default::default());
        offsets.commit("t", "g", 0, 1).unwrap();
        delete(&frame, &groups, |group, with_offsets| offsets.group_deleted(group, with_offsets), 3).unwrap();
        assert!(!groups.contains("g"));
        assert!(offsets.topics_of("g").is_empty());
    }

    #[test]
    fn a_wrong_name_is_refused() {
        let refusal = create(&with_body(r#"{"groupName":"bad name"}"#), &groups(), 1).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::InvalidParameter);
        assert!(refusal.text.contains("illegal characters"));
        assert!(create(&with_body("nonsense"), &groups(), 1).is_err());
    }

    #[test]
    fn all_groups_are_told_with_their_number() {
        let answer = all(&Frame::request(RequestCode::GetAllSubscriptiongroupConfig), &groups()).unwrap();
        assert_eq!(answer.fields.int::<i32>("totalGroupNum"), Some(8));
    }
}
