//! Rows in which the disk below the SQLite file refuses what it is given: a library, loaded before that of the system,
//! fails syncs, writes and locks while a file is there.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Result;

use crate::faults::account::CannotRun;
use crate::faults::beat::Beat;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::Trial;
use crate::tool::{self, Tool};

const COMPILER: Tool =
    Tool { program: "cc", package: "gcc", purpose: "builds a library in which calls to a disk fail" };

/// Fails the calls of one kind while a file is there, and notes each failure in another. Of files that are written those
/// of the queue are known by their name; nobody else locks a part of a file.
const FAILING: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int fails(const char *kind, int reason) {
    const char *when = getenv("DISK_FAILS_WHILE"), *what = getenv("DISK_FAILS_AT");
    if (!when || !what || strcmp(what, kind) != 0 || access(when, F_OK) != 0) return 0;
    int file = open(getenv("DISK_FAILURES"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (file >= 0) { ssize_t written = write(file, ".", 1); (void)written; close(file); }
    errno = reason;
    return 1;
}
static int is_queue(int fd) {
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0) return 0;
    name[length] = 0;
    return strstr(name, "queue.db") != 0;
}
int fsync(int fd) { (void)fd; return fails("sync", EIO) ? -1 : 0; }
int fdatasync(int fd) { (void)fd; return fails("sync", EIO) ? -1 : 0; }
ssize_t write(int fd, const void *bytes, size_t count) {
    if (is_queue(fd) && fails("write", EIO)) return -1;
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    return real(fd, bytes, count);
}
static ssize_t put(const char *name, int fd, const void *bytes, size_t count, off_t at) {
    if (is_queue(fd) && fails("write", EIO)) return -1;
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
    return real(fd, bytes, count, at);
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return put("pwrite", fd, bytes, count, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at) { return put("pwrite64", fd, bytes, count, at); }
static int control(const char *name, int fd, int command, void *argument) {
    int takes = (command == F_SETLK || command == F_SETLKW) && ((struct flock *)argument)->l_type != F_UNLCK;
    if (takes && fails("lock", ENOLCK)) return -1;
    int (*real)(int, int, ...) = dlsym(RTLD_NEXT, name);
    return real(fd, command, argument);
}
#define ARGUMENT(command) ({ va_list list; va_start(list, command); void *it = va_arg(list, void *); va_end(list); it; })
int fcntl(int fd, int command, ...) { return control("fcntl", fd, command, ARGUMENT(command)); }
int fcntl64(int fd, int command, ...) { return control("fcntl64", fd, command, ARGUMENT(command)); }
"#;

/// What is given to the disk is refused by it, again and again.
pub(crate) fn fsync(trial: &mut Trial<'_>) -> Result<()> {
    failing(trial, "sync", "fsync and fdatasync fail with EIO")
}

/// The disk cannot be written to, again and again.
pub(crate) fn writes(trial: &mut Trial<'_>) -> Result<()> {
    failing(trial, "write", "writing to the file fails with EIO")
}

/// The file system gives no locks, again and again, as one over a network whose server has restarted.
pub(crate) fn locks(trial: &mut Trial<'_>) -> Result<()> {
    failing(trial, "lock", "locking the file fails with ENOLCK")
}

fn failing(trial: &mut Trial<'_>, kind: &str, told: &str) -> Result<()> {
    tool::ensure(&COMPILER).map_err(|error| CannotRun(format!("{error:#}")))?;
    let (source, library) = (trial.path("failing.c"), trial.path("failing.so"));
    fs::write(&source, FAILING)?;
    let mut compiler = Command::new(COMPILER.program);
    let built = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").output()?;
    if !built.status.success() {
        let reason = String::from_utf8_lossy(&built.stderr).trim().to_owned();
        return Err(CannotRun(format!("cc cannot build the library: {reason}")).into());
    }
    let (rounds, fires) = trial.lab.size((2, 60), (8, 240));
    let beat = Beat::soon(trial, "beat", 100, fires);
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    let (switch, failures) = (trial.path("failing"), trial.path("failures"));
    let mut command = trial.daemon_command("one");
    command.env("LD_PRELOAD", &library).env("DISK_FAILS_AT", kind);
    command.env("DISK_FAILS_WHILE", &switch).env("DISK_FAILURES", &failures).process_group(0);

    let mut daemon = trial.start(command, "one")?;
    beat.is_known_to(trial, &daemon)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;
    for _ in 0..rounds {
        fs::write(&switch, "")?;
        std::thread::sleep(trial.chance.millis(200, 1_200));
        fs::remove_file(&switch)?;
        std::thread::sleep(trial.chance.millis(200, 800));
    }
    let failed = fs::read(&failures).unwrap_or_default().len();
    trial.injected(format!(
        "{told}, by a preloaded library, {rounds} times for a while; it noted {failed} failures"
    ));
    trial.must(failed > 0, || "nothing failed".to_owned());
    trial.expected("the daemon lives; each fire once and finished");
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}
