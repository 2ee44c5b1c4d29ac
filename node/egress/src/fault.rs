//! What a failed request was, as the guest is told.

use std::error::Error;

use skein_proto::{ErrorCode, Failure};

use crate::{address::PrivateName, hop::Hop};

/// The failure that stands for an error of the HTTP client.
pub(crate) fn failure(error: reqwest::Error, hop: &Hop) -> Failure {
    let origin = hop.origin();
    // The URL may hold secrets; the guest has it anyway.
    let error = error.without_url();
    let causes: Vec<&(dyn Error + 'static)> =
        std::iter::successors(error.source(), |error| (*error).source()).collect();
    if causes.iter().any(|cause| cause.is::<PrivateName>()) {
        return private(&origin);
    }
    let why = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
    if error.is_builder() {
        Failure::not_executed(ErrorCode::BadRequest, format!("the request to {origin} cannot be sent: {why}"))
    } else if error.is_connect() {
        Failure::not_executed(ErrorCode::Unreachable, format!("no connection to {origin}: {why}"))
    } else {
        Failure::maybe_executed(ErrorCode::PeerLost, format!("{origin} broke off: {why}"))
    }
}

/// The refusal of a private address.
pub(crate) fn private(origin: &str) -> Failure {
    let message = format!(
        "{origin} has a private address, which functions reach only where the operator allows it and a grant names the \
         very host: add `http = [\"{origin}\"]` to [grants] of function.toml"
    );
    Failure::not_executed(ErrorCode::NotGranted, message)
}
