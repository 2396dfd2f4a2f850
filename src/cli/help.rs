//! The text that `--help` adds to the arguments, so that it reads like a manual page. Lines have at most 80 columns. A
//! line that begins with the command's name is an example that the command line must accept.

macro_rules! configuration {
    () => {
        "Configuration:
  Files are TOML; --config may repeat, and later files win over earlier ones.
  Variables win over files. An unknown key is an error.

Environment:
  SEZZLE_SIDECAR__SECTION__KEY
      Sets one key: cache.max_ttl is SEZZLE_SIDECAR__CACHE__MAX_TTL. Lists are
      separated by commas.
"
    };
}

macro_rules! secrets {
    () => {
        "  SEZZLE_SIDECAR__CREDENTIALS__PUBLIC_KEY
  SEZZLE_SIDECAR__CREDENTIALS__PRIVATE_KEY
      The keys themselves, in place of files. Secrets are never arguments and
      never stand in a configuration file.

Files:
  credentials.public_key_file, credentials.private_key_file
      One key each and nothing else, mode 0400, or 0440 for a group. A file that
      others may write is refused. Both may change while the sidecar runs.
"
    };
}

pub(super) const SIDECAR: &str = concat!(
    configuration!(),
    secrets!(),
    "
Exit codes:
  0   clean stop, or the command is done
  64  wrong usage
  77  a secret could not be read or used
  78  the configuration is wrong
  1   anything else

Examples:
  Check a configuration, run with it, and wait until it may be called:
    sezzle-sidecar check --config sidecar.toml
    sezzle-sidecar run --config sidecar.toml
    sezzle-sidecar wait --config sidecar.toml --max 30s
  The manual page of a command:
    sezzle-sidecar help wait
"
);

pub(super) const RUN: &str = concat!(
    configuration!(),
    secrets!(),
    "
Output:
  The log, on standard output: one line per event and per request, as JSON, or
  text by log.format. Why it could not start, on standard error.

Signals:
  SIGTERM, SIGINT
      Not ready any more; goes on accepting for drain.grace, ends what is under
      way within drain.timeout, and exits with 0. A second one stops it at once.
  SIGHUP
      Reads the files and the keys again. What takes no restart is in force at
      once, or nothing if there is a mistake; the log says what happened.

Service manager:
  Under systemd it says when it is ready, reloads, stops and works, and takes
  over sockets that are passed for its addresses. NOTIFY_SOCKET, WATCHDOG_USEC
  and LISTEN_FDS say so; without them nothing of it happens.

Exit codes:
  0   stopped by a signal
  64  wrong usage
  77  a secret could not be read or used
  78  the configuration is wrong
  1   anything else, such as an address in use or a second signal

Examples:
  Sezzle's sandbox, with files over each other:
    sezzle-sidecar run --config sandbox.toml --config local.toml
"
);

pub(super) const CHECK: &str = concat!(
    configuration!(),
    "
Output:
  The configuration in force as TOML, each value with where it was set, on
  standard output; or every mistake, one per line, on standard error. It opens
  neither the files of secrets nor gateway.ca_file; --online and run do.

  With --online what was found on the way to Sezzle, a line each: how long it
  took, TLS, the clocks, the merchant, and what Sezzle says of caching.

Exit codes:
  0   no mistake; with --online, Sezzle took the keys
  64  wrong usage
  77  a key cannot be read, or Sezzle does not take it
  78  the configuration is wrong
  1   anything else: Sezzle was not reached, or failed

Examples:
    sezzle-sidecar check --config sidecar.toml
    sezzle-sidecar check --online --config sidecar.toml
"
);

pub(super) const HEALTHCHECK: &str = concat!(
    configuration!(),
    "
Output:
  What /livez says, on standard output; or why there is no 200 from it within
  3 s, on standard error.

Exit codes:
  0   alive
  64  wrong usage
  78  ops.listen is wrong, or a file cannot be read
  1   not alive

Examples:
  For a container that has no shell:
    HEALTHCHECK CMD [\"/sezzle-sidecar\", \"healthcheck\"]
  By hand:
    sezzle-sidecar healthcheck --config sidecar.toml
"
);

pub(super) const WAIT: &str = concat!(
    configuration!(),
    "
Output:
  What /readyz says once it is 200, on standard output; or what was wrong last,
  on standard error. Whether nobody listens yet or the sidecar is not ready yet
  makes no difference: it asks again until the time is over.

Exit codes:
  0   ready
  64  wrong usage
  78  ops.listen is wrong, or a file cannot be read
  1   not ready within --max

Examples:
  Before a service is started beside it:
    sezzle-sidecar wait --config sidecar.toml --max 30s
"
);

pub(super) const EXPLAIN: &str = concat!(
    configuration!(),
    "
Input:
  An answer of Sezzle's, as curl -i shows it, or its body alone. None is needed.

Exit codes:
  0   explained
  64  wrong usage, or the input is no answer
  78  the configuration is wrong

Examples:
  Would this be answered from memory, and would this answer be stored?
    sezzle-sidecar explain GET /v2/session/6c9db5d4-d09a-4224-860a-b5438ac32ca8
    sezzle-sidecar explain GET /v2/customer -H Cache-Control:no-cache < answer
"
);

pub(super) const PURGE: &str = concat!(
    configuration!(),
    "
Output:
  How many sessions were removed.

Exit codes:
  0   done
  64  wrong usage
  78  the configuration is wrong, or has no control.listen
  1   nobody answers there, or the sidecar refuses

Examples:
    sezzle-sidecar purge 6c9db5d4-d09a-4224-860a-b5438ac32ca8
    sezzle-sidecar purge --order 3f1a9c1e-7f53-4a3c-9a5e-0b0f8f2a1c55
    sezzle-sidecar purge --all --config sidecar.toml
"
);

#[cfg(feature = "simulator")]
pub(super) const DEMO: &str = "\
The demo reads no configuration and needs no account. It takes the usual ports
where they are free, and others where not; the tour prints them.

Exit codes:
  0   the tour is over, or stopped by a signal
  64  wrong usage
  1   a step did not go as it should

Examples:
    sezzle-sidecar demo
    sezzle-sidecar demo --once
";

#[cfg(feature = "simulator")]
pub(super) const SIMULATE: &str = "\
The simulated gateway reads no configuration. Tests control it over HTTP below
/_simulator/: play the shopper, change settings, script failures, send
webhooks, read what arrived. The command prints lines to try.

Exit codes:
  0   stopped by a signal
  64  wrong usage
  78  a certificate or its key cannot be used
  1   anything else, such as an address in use

Examples:
    sezzle-sidecar simulate
    sezzle-sidecar simulate --listen 127.0.0.1:9000 --http2
    sezzle-sidecar simulate --tls-certificate gateway.pem --tls-key gateway.key
";

pub(super) const COMPLETIONS: &str = "\
Exit codes:
  0   printed
  64  wrong usage

Examples:
  For one session of bash, and for every one to come:
    source <(sezzle-sidecar completions bash)
    sezzle-sidecar completions bash > /etc/bash_completion.d/sezzle-sidecar
  The others, where they look for it, which for zsh is any folder in $fpath:
    sezzle-sidecar completions zsh > ~/.zsh/functions/_sezzle-sidecar
    sezzle-sidecar completions fish > /etc/fish/completions/sezzle-sidecar.fish
";
