//! Handlers of group administration: codes 200, 201, 207, 225, 352 and 353.
//!
//! The caller should send the responses to 200, 207 and 225 after the change is settled, see
//! [`crate::signal::Signal::when_settled`].

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
    /// The refusal of a request for a group: code 26 with the text `missing` if the group does not exist or its name is invalid,
    /// else the same as for other errors.
    pub fn into_refusal(self, missing: impl FnOnce(&Self) -> String) -> Refusal {
        match self {
            Self::Missing | Self::Name(_) => Refusal::new(ResponseCode::SubscriptionGroupNotExist, missing(&self)),
            other => other.into(),
        }
    }
}

/// Code 200: creates or changes a group.
///
/// # Errors
/// `SystemError` if the body is malformed, or the refusal of a [`GroupError`].
pub fn create(request: &Frame, groups: &Groups, now_ms: i64) -> Outcome {
    // As in Apache, an empty body changes nothing.
    if request.body.is_empty() {
        return Ok(Answer::ok());
    }
    let rule: Rule = json::read(&request.body)?;
    set(vec![rule], groups, now_ms)
}

/// Code 225: creates or changes several groups, all or none.
///
/// # Errors
/// The same as [`create`], for any of the groups.
pub fn create_list(request: &Frame, groups: &Groups, now_ms: i64) -> Outcome {
    let header: GroupConfigList = json::read(&request.body)?;
    set(header.group_config_list, groups, now_ms)
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
/// `SystemError` if a field is malformed.
pub fn all(request: &Frame, groups: &Groups) -> Outcome {
    let header = AllGroupConfigHeader::decode(&request.ext)?;
    let mut body = table::configs(groups);
    let total = i32::try_from(body.subscription_group_table.len()).unwrap_or(i32::MAX);
    body.subscription_group_table = page(
        body.subscription_group_table,
        &body.data_version,
        header.data_version,
        header.group_seq,
        header.max_group_num,
    );
    let shown = &body.subscription_group_table;
    body.forbidden_table.retain(|group, _| shown.contains_key(group));
    Ok(Answer::body(json::write(&body)).with("totalGroupNum", total))
}

/// Code 207: deletes a group and its state, and its offsets if requested. `forget` deletes the state in other tables.
///
/// # Errors
/// `SystemError` if a field is missing.
pub fn delete(request: &Frame, groups: &Groups, forget: impl FnOnce(&str, bool), now_ms: i64) -> Outcome {
    let header = DeleteGroupHeader::decode(&request.ext)?;
    groups.remove(header.group_name, now_ms);
    forget(header.group_name, header.clean_offset);
    Ok(Answer::ok())
}

/// Code 352: one group's configuration. Creates the group if that is allowed, as Apache does.
///
/// # Errors
/// `SubscriptionGroupNotExist` if the group does not exist and may not be created.
pub fn get(request: &Frame, groups: &Groups, auto_create: bool, now_ms: i64) -> Outcome {
    let group = GroupHeader::decode(&request.ext)?.group;
    let rule = groups.find_or_create(group, auto_create, now_ms);
    let rule = rule.map_err(|error| error.into_refusal(|_| format!("No group in this broker. group: {group}")))?;
    Ok(Answer::body(json::write(&*rule)))
}

/// Code 353: forbids or allows a group to read a topic; without `readable` only returns the state.
///
/// # Errors
/// `SystemError` if a field is missing, or the refusal of a [`GroupError`].
pub fn forbid(request: &Frame, groups: &Groups, now_ms: i64) -> Outcome {
    let header = GroupForbiddenHeader::decode(&request.ext)?;
    if let Some(readable) = header.readable {
        groups.forbid_reading(header.group, header.topic, !readable, now_ms)?;
    }
    let body = GroupForbidden {
        group: header.group.to_owned(),
        topic: header.topic.to_owned(),
        readable: Some(!groups.is_reading_forbidden(header.group, header.topic)),
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
    fn a_group_is_created_returned_and_deleted() {
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
    fn an_invalid_name_is_refused() {
        let refusal = create(&with_body(r#"{"groupName":"bad name"}"#), &groups(), 1).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::InvalidParameter);
        assert!(refusal.text.contains("illegal characters"));
        assert!(create(&with_body("nonsense"), &groups(), 1).is_err());
    }

    #[test]
    fn all_groups_are_returned_with_their_count() {
        let answer = all(&Frame::request(RequestCode::GetAllSubscriptiongroupConfig), &groups()).unwrap();
        assert_eq!(answer.fields.int::<i32>("totalGroupNum"), Some(8));
    }
}
