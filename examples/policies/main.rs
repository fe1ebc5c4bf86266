//! Puts every policy of the local tier to the test, by the clock on the wall, in about seven seconds.
//!
//! Each row shows what was expected, written down before the run, beside what history then shows. A row that
//! differs is red, and the program ends with exit code 1.

mod scenarios;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use scheduler_core::{Clock, SystemClock};

#[tokio::main]
async fn main() -> ExitCode {
    // One of the jobs panics on purpose; its message stands in history and need not stand here.
    std::panic::set_hook(Box::new(|_| ()));
    let all = scenarios::all();
    println!("running {} scenarios side by side", all.len());
    let running: Vec<_> = all
        .into_iter()
        .map(|scenario| {
            tokio::spawn(async move {
                let pass: scenarios::Pass = Arc::new(|by| Box::pin(tokio::time::sleep(by)));
                let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
                let seen = scenario.run(clock, pass).await;
                (scenario.name, scenario.expected, seen.unwrap_or_else(|error| format!("error: {error}")))
            })
        })
        .collect();
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut wrong = 0;
    for row in running {
        let Ok((name, expected, seen)) = row.await else {
            wrong += 1;
            continue;
        };
        let ok = seen == expected;
        wrong += usize::from(!ok);
        let verdict = match (ok, colour) {
            (true, _) => "ok      ".to_owned(),
            (false, true) => "\x1b[1;31mDIFFERS \x1b[0m".to_owned(),
            (false, false) => "DIFFERS ".to_owned(),
        };
        println!("{verdict} {name}\n    expected  {expected}\n    seen      {seen}");
    }
    if wrong == 0 {
        println!("every policy did what was expected of it");
        ExitCode::SUCCESS
    } else {
        println!("{wrong} rows differ");
        ExitCode::FAILURE
    }
}
