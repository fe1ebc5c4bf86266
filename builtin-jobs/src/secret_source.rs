//! Where secrets lie, and one look at them: when they were made, when they end, and who else may read them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use scheduler_core::{RunContext, Timestamp};
use serde_json::{Map, Value};

use crate::place::Place;
use crate::secret_command::{Call, Out};
use crate::secret_due::Dates;
use crate::{certificate, secret_env_file, secret_file, secret_jwt, tls};

/// Where a secret lies.
#[derive(Debug)]
pub(crate) enum Source {
    File(PathBuf),
    Directory(PathBuf),
    /// A file, and the names that must be in it.
    EnvFile(PathBuf, Vec<String>),
    Certificate(PathBuf),
    Tls(Place, Option<PathBuf>),
    Jwt(PathBuf),
    JwtVariable(String),
    Command(Vec<String>),
}

/// One secret of a place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// What tells it from the others: a file, a name, a number.
    pub(crate) name: String,
    /// Its dates, or why there are none.
    pub(crate) dates: Result<Dates, String>,
    pub(crate) findings: Vec<String>,
}

impl Item {
    fn new(name: impl Into<String>, dates: Dates) -> Self {
        Self { name: name.into(), dates: Ok(dates), findings: Vec::new() }
    }

    pub(crate) fn unknown(name: impl Into<String>, why: String) -> Self {
        Self { name: name.into(), dates: Err(why), findings: Vec::new() }
    }
}

impl Source {
    /// The file that a rotation replaces, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::EnvFile(path, _) | Self::Certificate(path) | Self::Jwt(path) => {
                Some(path)
            }
            Self::Directory(_) | Self::Tls(..) | Self::JwtVariable(_) | Self::Command(_) => None,
        }
    }

    /// Looks at every secret of the place.
    pub(crate) async fn look(&self, ctx: &RunContext, name: &str, mode: u32, limit: Duration) -> Vec<Item> {
        let looked = match self {
            Self::File(path) => blocking(path, move |path| Ok(vec![of_file(path, mode)?])).await,
            Self::Directory(path) => {
                blocking(path, move |path| {
                    let files = secret_file::files_of(path)?.into_iter();
                    let item = |file: PathBuf| {
                        let shown = file.display().to_string();
                        of_file(&file, mode).unwrap_or_else(|why| Item::unknown(shown, why))
                    };
                    Ok(files.map(item).collect())
                })
                .await
            }
            Self::EnvFile(path, keys) => {
                let keys = keys.clone();
                blocking(path, move |path| of_env_file(path, &keys, mode)).await
            }
            Self::Certificate(path) => blocking(path, move |path| of_certificates(path, mode)).await,
            Self::Tls(place, ca_file) => match place.connect().await {
                Ok(stream) => certificate::shown_by(&place.host, stream, ca_file.as_deref())
                    .await
                    .map(|shown| chain(&shown)),
                Err(fault) => Err(fault),
            },
            Self::Jwt(path) => {
                blocking(path, move |path| {
                    let mut item = of_file(path, mode)?;
                    item.dates = secret_jwt::dates(&secret_file::text(path)?).map_err(str::to_owned);
                    Ok(vec![item])
                })
                .await
            }
            Self::JwtVariable(variable) => match std::env::var(variable) {
                Ok(token) => secret_jwt::dates(&token)
                    .map(|dates| vec![Item::new(variable, dates)])
                    .map_err(str::to_owned),
                Err(_) => Err(format!("the variable `{variable}` is not set, or is no text")),
            },
            Self::Command(words) => {
                let call = Call { words, secret: name, file: None, limit };
                let said = call.run(ctx, None, Out::Back).await;
                said.and_then(|said| Ok(vec![Item::new(name, metadata(&said)?)]))
            }
        };
        looked.unwrap_or_else(|why| vec![Item::unknown(name, why)])
    }
}

async fn blocking(
    path: &Path,
    look: impl FnOnce(&Path) -> Result<Vec<Item>, String> + Send + 'static,
) -> Result<Vec<Item>, String> {
    let path = path.to_owned();
    let looked = tokio::task::spawn_blocking(move || look(&path)).await;
    looked.unwrap_or_else(|error| Err(format!("it could not be looked at: {error}")))
}

fn of_file(path: &Path, mode: u32) -> Result<Item, String> {
    let metadata = secret_file::metadata(path)?;
    let mut item = Item::new(path.display().to_string(), secret_file::dates(&metadata));
    item.findings.extend(secret_file::exposure(&metadata, mode));
    if metadata.len() == 0 {
        item.findings.push("its file is empty".to_owned());
    }
    Ok(item)
}

fn of_env_file(path: &Path, keys: &[String], mode: u32) -> Result<Vec<Item>, String> {
    let file = of_file(path, mode)?;
    let text = secret_file::text(path)?;
    let (names, bad) = secret_env_file::names(&text);
    let mut items: Vec<Item> = Vec::new();
    for (name, has_value) in names {
        let is_meant = keys.is_empty() || keys.iter().any(|key| key == name);
        if !is_meant || items.iter().any(|item| item.name == name) {
            continue;
        }
        let mut item = Item { name: name.to_owned(), ..file.clone() };
        item.findings.extend((!has_value).then(|| "it has no value".to_owned()));
        items.push(item);
    }
    for key in keys {
        if items.iter().all(|item| item.name != *key) {
            items.push(Item::unknown(key, format!("{} does not set it", path.display())));
        }
    }
    let bad = bad.first().map(|line| format!("line {line} of its file is no `NAME=value`"));
    match (items.first_mut(), bad) {
        (Some(first), bad) => first.findings.extend(bad),
        (None, bad) => return Err(bad.unwrap_or_else(|| format!("{} sets nothing", path.display()))),
    }
    Ok(items)
}

fn of_certificates(path: &Path, mode: u32) -> Result<Vec<Item>, String> {
    let text = secret_file::content(path)?;
    let mut items = chain(&tls::certificates(path).map_err(|error| error.to_string())?);
    // A certificate is public; the key that may lie beside it is not.
    let holds_key = text.windows(16).any(|part| part == b"PRIVATE KEY-----");
    let exposure = secret_file::exposure(&secret_file::metadata(path)?, mode).filter(|_| holds_key);
    if let (Some(first), Some(exposure)) = (items.first_mut(), exposure) {
        first.findings.push(exposure);
    }
    Ok(items)
}

fn chain(certificates: &[CertificateDer<'_>]) -> Vec<Item> {
    let numbered = certificates.iter().enumerate().map(|(index, found)| {
        let name = format!("certificate {} of {}", index + 1, certificates.len());
        match certificate::validity(found) {
            Some(valid) => Item::new(name, Dates { created: Some(valid.begin), expires: Some(valid.end) }),
            None => Item::unknown(name, "it does not say until when it is valid".to_owned()),
        }
    });
    numbered.collect()
}

/// What a program says of a secret: a JSON object or lines, with `created_at` and `expires_at`.
fn metadata(said: &str) -> Result<Dates, String> {
    let object: Map<String, Value> = serde_json::from_str(said).unwrap_or_else(|_| {
        let pairs = said.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.trim().to_owned(), Value::from(value.trim()))).collect()
    });
    let date = |name: &str| -> Result<Option<Timestamp>, String> {
        let Some(value) = object.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let number = value.as_str().and_then(|text| text.parse::<f64>().ok()).map(Value::from);
        let text = value.as_str().and_then(|text| text.parse().ok());
        let found = text.or_else(|| secret_jwt::seconds(number.as_ref().unwrap_or(value)));
        found.map(Some).ok_or_else(|| format!("what its program says is `{name}` is no time"))
    };
    let dates = Dates { created: date("created_at")?, expires: date("expires_at")? };
    if dates == Dates::default() {
        return Err("its program says neither `created_at` nor `expires_at`".to_owned());
    }
    Ok(dates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_json_or_lines_and_nothing_else_of_it_is_told() {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let cases = [
            (r#"{"created_at": 1700000000, "value": "canary"}"#, Some((Some(at), None))),
            (r#"{"expires_at": "2023-11-14T22:13:20Z", "created_at": null}"#, Some((None, Some(at)))),
            (
                "value=canary\ncreated_at = 1700000000\nexpires_at=2023-11-14T22:13:20Z\n",
                Some((Some(at), Some(at))),
            ),
            (r#"{"created_at": "canary"}"#, None),
            ("canary", None),
            ("[\"canary\"]", None),
        ];
        for (said, dates) in cases {
            let found = metadata(said);
            assert_eq!(found.as_ref().ok().map(|found| (found.created, found.expires)), dates, "{said}");
            assert!(found.err().is_none_or(|fault| !fault.contains("canary")), "{said}");
        }
    }
}
