//! `skein explain`: the page of an error code.

use skein_gateway::api::ErrorPage;
use skein_proto::{ErrorCode, Failure};

use crate::{
    cli::Common,
    output::{emit, table},
};

pub(super) fn explain(common: &Common, code: Option<&str>) -> Result<(), Failure> {
    let Some(text) = code else {
        let pages: Vec<ErrorPage> = ErrorCode::ALL.iter().map(|code| ErrorPage::from(*code)).collect();
        return emit(common.json, &pages, || {
            let rows =
                pages.iter().map(|page| vec![page.code.to_string(), page.status.to_string(), page.meaning.clone()]);
            table(&["CODE", "HTTP", "MEANING"], rows)
        });
    };
    let text = text.to_ascii_lowercase().replace('_', "-");
    let code = ErrorCode::from_text(&text).ok_or_else(|| {
        let distance = |code: &&ErrorCode| strsim::damerau_levenshtein(&text, code.as_str());
        let nearest = ErrorCode::ALL.iter().min_by_key(distance).filter(|code| distance(code) <= text.len() / 3);
        let hint =
            nearest.map_or("; `skein explain` lists them all".to_owned(), |code| format!("; did you mean `{code}`?"));
        Failure::not_executed(ErrorCode::NotFound, format!("no error code `{text}`{hint}"))
    })?;
    let page = ErrorPage::from(code);
    emit(common.json, &page, || {
        format!(
            "{}\n\n{}\n\nWhat to do: {}\nHTTP status {}, exit code {}",
            page.code, page.meaning, page.advice, page.status, page.exit_code
        )
    })
}
