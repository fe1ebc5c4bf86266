//! Rows in which Redis is reached over TLS: with a certificate that is good, and with others.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::certificate::{Authority, Certificate, self_signed};
use crate::faults::beat::Beat;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::Trial;
use crate::redis::Settings;
use crate::resp::Client;

/// Where the server is, by the names that the daemons call it.
const HOST: &str = "127.0.0.1";

/// Starts a server with a good certificate; answers who signed it, its password, and the setting that names them.
fn start(trial: &mut Trial<'_>) -> Result<(Authority, String, String)> {
    let authority = Authority::new()?;
    let password = format!("canary{:x}", trial.chance.next());
    let tls = Some(authority.signed(HOST)?);
    trial.start_server(&Settings { tls, password: Some(password.clone()), ..Settings::default() })?;
    let file = trial.path("authority.pem");
    fs::write(&file, authority.pem()).context("cannot write the authority's certificate")?;
    Ok((authority, password, format!("lease = \"2s\"\nca_file = \"{}\"", file.display())))
}

/// Gives the server another certificate, for the connections that come.
fn present(client: &mut Client, folder: &Path, name: &str, certificate: &Certificate) -> Result<()> {
    let (chain, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    fs::write(&chain, &certificate.chain)?;
    fs::write(&key, &certificate.key)?;
    let (chain, key) = (chain.display().to_string(), key.display().to_string());
    client.command(&["CONFIG", "SET", "tls-cert-file", &chain, "tls-key-file", &key]).map(drop)
}

/// How many connections there are to a port.
fn connections(client: &mut Client, port: u16) -> Result<usize> {
    let told = client.command(&["CLIENT", "LIST"])?.text().context("CLIENT LIST is no text")?;
    let end = format!(" laddr={HOST}:{port} ");
    // One that is still exchanging certificates stands there as well, and has said nothing yet.
    let has_said = |line: &&str| line.contains(&end) && !line.contains(" cmd=NULL ");
    Ok(told.lines().filter(has_said).count())
}

/// All goes on over TLS, and over a certificate that has expired nothing, until there is a good one again.
pub(crate) fn over_tls(trial: &mut Trial<'_>) -> Result<()> {
    let (authority, password, settings) = start(trial)?;
    let port = trial.server()?.tls_port()?;
    let url = trial.server()?.tls_url()?;
    trial.set_url(url);
    let beat = Beat::soon(trial, "beat", 200, trial.lab.size(40, 100));
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure(&settings, &[task])?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 5)?;
    let mut client = trial.server()?.connect()?;
    let open = connections(&mut client, port)?;
    trial.injected(format!("a certificate for {HOST}; CLIENT LIST: {open} connections to the port of TLS"));
    trial.must(open > 0, || "nobody came over TLS".to_owned());

    let (good, expired) = (authority.signed(HOST)?, authority.expired(HOST)?);
    present(&mut client, &trial.path("redis"), "expired", &expired)?;
    client.command(&["CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "yes"])?;
    client.command(&["CLIENT", "KILL", "TYPE", "PUBSUB"])?;
    std::thread::sleep(Duration::from_secs(2));
    let meanwhile = connections(&mut client, port)?;
    present(&mut client, &trial.path("redis"), "good", &good)?;
    trial.injected(format!(
        "one that expired in 2001 under a daemon for 2 s, its connections closed; CLIENT LIST then: {meanwhile}"
    ));
    trial.must(meanwhile == 0, || format!("{meanwhile} connections in spite of the certificate"));
    trial.expected(
        "the daemon says that it has expired and goes on with the good one; each fire once and finished",
    );
    settle(trial, &beat, &Attempts::Counted)?;
    let told = daemon.log();
    trial.must(told.to_lowercase().contains("expired"), || {
        format!("the log does not tell of the certificate; {}", daemon.last_words())
    });
    trial.must(!told.contains(&password), || "the log shows the password".to_owned());
    ends_well(trial, &mut daemon)
}

/// How a server can be one that is not to be trusted.
enum Offered {
    Certificate(Certificate),
    /// The port of TLS is the plain one.
    PlainPort,
    /// The plain port is that of TLS.
    TlsPort,
}

/// Servers that are not to be trusted are told nothing, and the daemon says why.
pub(crate) fn refused(trial: &mut Trial<'_>) -> Result<()> {
    let (authority, password, settings) = start(trial)?;
    let stranger = Authority::new()?;
    let cases = [
        ("a self-signed certificate", Offered::Certificate(self_signed(HOST)?), "certificate"),
        ("one of another authority", Offered::Certificate(stranger.signed(HOST)?), "certificate"),
        ("one of another host", Offered::Certificate(authority.signed("elsewhere.example")?), "certificate"),
        ("one that expired in 2001", Offered::Certificate(authority.expired(HOST)?), "expired"),
        ("rediss:// to a port without TLS", Offered::PlainPort, "queue/unreachable"),
        ("redis:// to the port of TLS", Offered::TlsPort, "queue/unreachable"),
    ];
    trial.expected(
        "exit code 3, the reason named, and not a command said to the server, no password above all",
    );
    for (number, (what, offered, told)) in cases.into_iter().enumerate() {
        let (plain, tls) = (trial.server()?.url(), trial.server()?.tls_url()?);
        let mut client = trial.server()?.connect()?;
        let settings = match &offered {
            Offered::Certificate(certificate) => {
                present(&mut client, &trial.path("redis"), &format!("case{number}"), certificate)?;
                trial.set_url(tls);
                settings.as_str()
            }
            Offered::PlainPort => {
                trial.set_url(plain.replace("redis://", "rediss://"));
                settings.as_str()
            }
            Offered::TlsPort => {
                trial.set_url(tls.replace("rediss://", "redis://"));
                "lease = \"2s\""
            }
        };
        let task = trial.task("beat", "", "");
        trial.configure(settings, &[task])?;
        client.command(&["CONFIG", "RESETSTAT"])?;
        let mut daemon = trial.daemon("refused")?;
        let status = daemon.wait()?;
        let log = daemon.log();
        let heard = heard(&mut client)?;
        trial.injected(what);
        trial.counted(format!(
            "{what}: exit code {:?}, `{told}` named: {}, commands heard: {}",
            status.code(),
            log.contains(told),
            heard.join(" ")
        ));
        trial.must(status.code() == Some(3), || format!("{what}: it ended with {status}"));
        let reason = log.contains("queue/unreachable") && log.contains(told);
        trial.must(reason, || format!("{what}: the reason is not named; {}", daemon.last_words()));
        trial.must(heard.is_empty(), || format!("{what}: the server was told {}", heard.join(" ")));
        trial.must(!log.contains(&password), || format!("{what}: the log shows the password"));
    }
    Ok(())
}

/// The commands that a server has heard since its statistics began, but for ours.
fn heard(client: &mut Client) -> Result<Vec<String>> {
    let stats = client.info("commandstats")?;
    let names = stats.into_keys().filter_map(|name| name.strip_prefix("cmdstat_").map(str::to_owned));
    Ok(names.filter(|name| name != "info" && name != "config|resetstat").collect())
}
