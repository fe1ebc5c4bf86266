//! A child in a process group of its own, which ends with this process however that comes about.
//!
//! A shell outside of every such group hears which of them there are, and that we have ended from the end of the pipe
//! by which it hears. So Ctrl-C, and whatever else ends us, ends what cargo has started too.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// Keeps the groups that have begun and not ended. At our end it asks them to end, and does not wait for long.
const WARDEN: &str = r#"
trap '' INT TERM HUP
cd /
groups=
while read -r what group; do
    others=
    for one in $groups; do [ "$one" = "$group" ] || others="$others $one"; done
    groups=$others
    [ "$what" = begun ] && groups="$groups $group"
done
[ "$groups" ] || exit 0
for group in $groups; do kill -s TERM -- "-$group"; done
sleep 3
for group in $groups; do kill -s KILL -- "-$group"; done
"#;

/// The shell's ear, once there is one.
static EAR: Mutex<Option<ChildStdin>> = Mutex::new(None);

/// The child.
#[derive(Debug)]
pub(crate) struct Charge {
    child: Child,
    is_over: bool,
}

impl Charge {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot start, or there is no shell.
    pub(crate) fn spawn(mut command: Command) -> io::Result<Self> {
        // Told of nobody at first, so that no child is under way when there is no shell.
        tell("ended 0")?;
        let charge = Self { child: command.process_group(0).spawn()?, is_over: false };
        tell(&format!("begun {}", charge.child.id()))?;
        Ok(charge)
    }

    /// The child itself, for whoever reads from it.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.is_over = true;
        Ok(status)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if !self.is_over {
            // Until it is waited for, nobody else gets its id.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
        let _ = tell(&format!("ended {}", self.child.id()));
    }
}

fn tell(words: &str) -> io::Result<()> {
    let mut ear = EAR.lock().unwrap_or_else(PoisonError::into_inner);
    if ear.is_none() {
        *ear = start_warden()?.stdin;
    }
    match ear.as_mut() {
        Some(ear) => writeln!(ear, "{words}"),
        None => Ok(()),
    }
}

fn start_warden() -> io::Result<Child> {
    let mut warden = Command::new("sh");
    warden.args(["-c", WARDEN, "warden"]).process_group(0);
    warden.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// What the shell makes of what it hears, with our end after it.
    #[test]
    fn a_group_that_has_begun_and_not_ended_ends_with_us() {
        let sleeping = |seconds: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("sleep {seconds} & wait")]).process_group(0);
            command.stdout(Stdio::piped()).spawn().unwrap()
        };
        let (mut kept, mut ended) = (sleeping("600"), sleeping("601"));
        let mut warden = start_warden().unwrap();
        let mut ear = warden.stdin.take().unwrap();
        let ids = [kept.id(), ended.id()];
        write!(ear, "begun {}\nbegun {}\nended {}\n", ids[0], ids[1], ids[1]).unwrap();

        drop(ear);
        warden.wait().unwrap();

        // The pipe ends when the last of the group has ended.
        kept.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
        assert!(!kept.wait().unwrap().success());
        assert!(ended.try_wait().unwrap().is_none());
        kill_process_group(Pid::from_child(&ended), Signal::KILL).unwrap();
        ended.wait().unwrap();
    }

    #[test]
    fn one_that_is_not_waited_for_ends_with_its_value() {
        let mut command = Command::new("sleep");
        command.arg("600").stdout(Stdio::piped());
        let mut charge = Charge::spawn(command).unwrap();
        let mut said = charge.child().stdout.take().unwrap();

        drop(charge);

        assert_eq!(said.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}
