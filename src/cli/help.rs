//! The text that `--help` adds to the arguments, so that it reads like a manual page. Lines have at most 80 columns. A
//! line that begins with the command's name is an example that the command line must accept.

macro_rules! configuration {
    () => {
        "Configuration:
  Files are TOML. --config may repeat: a later file wins over an earlier one,
  and a variable wins over all files. An unknown key is an error.

Environment:
  SEZZLE_SIDECAR__SECTION__KEY
      Sets one key: SEZZLE_SIDECAR__CACHE__MAX_TTL sets cache.max_ttl. Separate
      the items of a list with commas.
"
    };
}

macro_rules! secrets {
    () => {
        "  SEZZLE_SIDECAR__CREDENTIALS__PUBLIC_KEY
  SEZZLE_SIDECAR__CREDENTIALS__PRIVATE_KEY
      The keys themselves, instead of files. Secrets are never arguments, and
      never part of a configuration file.

Files:
  credentials.public_key_file, credentials.private_key_file
      Each file holds one key and nothing else, with mode 0400, or 0440 for a
      group. The sidecar refuses a file that anybody but its owner may write.
      Both files may change while the sidecar runs.
"
    };
}

pub(super) const SIDECAR: &str = concat!(
    configuration!(),
    secrets!(),
    "
Exit codes:
  0   stopped by a signal, or the command succeeded
  64  wrong usage
  77  a secret could not be read or used
  78  the configuration is wrong
  1   anything else, such as an address in use or a second signal

Examples:
  Check a configuration, run the sidecar, and wait until it is ready:
    sezzle-sidecar check --config sidecar.toml
    sezzle-sidecar run --config sidecar.toml
    sezzle-sidecar wait --config sidecar.toml --max 30s
  Show the manual page of a command:
    sezzle-sidecar help wait
"
);

pub(super) const RUN: &str = concat!(
    configuration!(),
    secrets!(),
    "
Output:
  Standard output has the log: one line per event and per request, as JSON, or
  as text if log.format says so. Standard error has the reason if the sidecar
  cannot start.

Signals:
  SIGTERM, SIGINT
      Drains the sidecar and exits with 0. /readyz fails at once. The sidecar
      accepts connections for drain.grace, and finishes calls under way within
      drain.timeout. A second signal stops the sidecar at once, if it comes a
      second or more after the first.
  SIGHUP
      Reads the files and the keys again, and applies every changed key that
      needs no restart. If there is any mistake, nothing changes. The log has
      the result.

Service manager:
  Under systemd the sidecar reports readiness, reloads, shutdown and watchdog
  keep-alives, and uses sockets that systemd passes for its addresses.
  NOTIFY_SOCKET, WATCHDOG_USEC and LISTEN_FDS turn this on.

Exit codes:
  0   stopped by a signal
  64  wrong usage
  77  a secret could not be read or used
  78  the configuration is wrong
  1   anything else, such as an address in use or a second signal

Examples:
  Use Sezzle's sandbox, with a second file that overrides the first:
    sezzle-sidecar run --config sandbox.toml --config local.toml
"
);

pub(super) const CHECK: &str = concat!(
    configuration!(),
    "
Output:
  Standard output has the effective configuration as TOML, with the source of
  each value. Standard error has every mistake, one per line. Without --online
  a secret that cannot be read is no mistake, so that a configuration can be
  checked where the secrets are not, and gateway.ca_file is not opened. The
  command opens the files that TLS needs: proxy.tls.certificate_file,
  proxy.tls.key_file and proxy.tls.client_ca_file.

  With --online the command prints one line for each finding: how long each
  step took, TLS, the clocks, the merchant, and Sezzle's caching headers.

Exit codes:
  0   no mistake; with --online, Sezzle accepted the keys
  64  wrong usage
  77  a key cannot be read, or Sezzle does not accept it
  78  the configuration is wrong
  1   anything else: Sezzle could not be reached, or failed

Examples:
    sezzle-sidecar check --config sidecar.toml
    sezzle-sidecar check --online --config sidecar.toml
"
);

pub(super) const HEALTHCHECK: &str = concat!(
    configuration!(),
    "
Output:
  Standard output has the answer of /livez. If /livez does not answer 200
  within 3 s, standard error has the reason.

Exit codes:
  0   alive
  64  wrong usage
  78  ops.listen is wrong, or a file cannot be read
  1   not alive

Examples:
  In the Dockerfile of an image without a shell:
    HEALTHCHECK CMD [\"/sezzle-sidecar\", \"healthcheck\"]
  By hand:
    sezzle-sidecar healthcheck --config sidecar.toml
"
);

pub(super) const WAIT: &str = concat!(
    configuration!(),
    "
Output:
  Standard output has the answer of /readyz once that is 200. After --max
  without a 200, standard error has the last failure. The command repeats the
  request after every failure, also while nothing listens yet.

Exit codes:
  0   ready
  64  wrong usage
  78  ops.listen is wrong, or a file cannot be read
  1   not ready within --max

Examples:
  Run this before a service starts:
    sezzle-sidecar wait --config sidecar.toml --max 30s
"
);

pub(super) const EXPLAIN: &str = concat!(
    configuration!(),
    "
Input:
  Optional: an answer from Sezzle as curl -i prints it, or its body alone. An
  answer that came through a sidecar has the sidecar's own Cache-Control.
  With --ask or -H @- the command reads no answer.

Exit codes:
  0   explained
  64  wrong usage, or the input is not an answer
  77  the secret of a caller cannot be read; with --ask also: a key cannot be
      read, or Sezzle does not accept the keys
  78  the configuration is wrong
  1   with --ask: Sezzle cannot be reached, or fails

Examples:
  Would memory answer this lookup? Would the cache store this answer?
    sezzle-sidecar explain GET /v2/session/6c9db5d4-d09a-4224-860a-b5438ac32ca8
    sezzle-sidecar explain GET /v2/customer -H Cache-Control:no-cache < answer
  Which caller would this be, and may it refund? The file has the line with
  the caller's token: Authorization: Bearer TOKEN
    sezzle-sidecar explain POST /v2/order/o/refund -H @till.header
    sezzle-sidecar explain POST /v2/order/o/refund -H @- < till.header
    sezzle-sidecar explain POST /v2/order/o/refund --uid 1000
  What does Sezzle answer now, and would the cache store it?
    sezzle-sidecar explain --ask GET /v2/session/$SESSION
"
);

pub(super) const PURGE: &str = concat!(
    configuration!(),
    "
Output:
  Standard output has the number of purged sessions.

Exit codes:
  0   done
  64  wrong usage
  78  the configuration is wrong, or has no control.listen
  1   no sidecar answers at control.listen, or the sidecar refuses

Examples:
    sezzle-sidecar purge 6c9db5d4-d09a-4224-860a-b5438ac32ca8
    sezzle-sidecar purge --order 3f1a9c1e-7f53-4a3c-9a5e-0b0f8f2a1c55
    sezzle-sidecar purge --all --config sidecar.toml
"
);

pub(super) const AUDIT: &str = "
Output:
  Standard output has a line for each place where the chain breaks, beginning
  with FILE:LINE: BREAK, and for each other thing that an auditor has to know,
  such as a line that a crash cut off. The last line has the numbers of the
  lines that were read and the hash of the last one.

Exit codes:
  0   the chain is whole
  64  wrong usage
  1   the chain breaks, there is no audit line, or a file cannot be read

Examples:
    sezzle-sidecar audit verify audit.log
    sezzle-sidecar audit verify audit.log.2 audit.log.1 audit.log
";

pub(super) const STATUS: &str = concat!(
    configuration!(),
    "
Output:
  Standard output has the content of the status page as text of 80 columns, or
  with --json the content of /status.json. The exit code says only whether the
  sidecar answered: read \"level\" of the JSON for its state.

Exit codes:
  0   printed
  64  wrong usage
  78  an address is wrong, a file cannot be read, or no listener has the page
  1   no sidecar answers

Examples:
    sezzle-sidecar status --config sidecar.toml
    sezzle-sidecar status --json --config sidecar.toml
  In a pod, whose image has neither a shell nor curl:
    kubectl exec POD -c sezzle-sidecar -- /sezzle-sidecar status
"
);

pub(super) const LOG_LEVEL: &str = concat!(
    configuration!(),
    "
Output:
  Standard output has the level that is in force.

Exit codes:
  0   done
  64  wrong usage
  78  control.listen is wrong or not set, or a file cannot be read
  1   no sidecar answers at control.listen, or the sidecar refuses

Examples:
    sezzle-sidecar log-level debug --config sidecar.toml
    sezzle-sidecar log-level info --config sidecar.toml
"
);

#[cfg(feature = "simulator")]
pub(super) const DEMO: &str = "\
The demo reads no configuration and needs no account. The demo uses the usual
ports, or others if the usual ones are taken, and prints the addresses.

With --fleet the demo runs three sidecars that share sessions and tell each
other of writes. For that the demo starts the first of redis-server and
valkey-server in PATH that runs, on a Unix socket and without persistence,
and ends it again.

Exit codes:
  0   the tour is over, or a signal stopped the demo
  64  wrong usage
  1   a step of the tour failed, or no server in PATH runs for --fleet

Examples:
    sezzle-sidecar demo
    sezzle-sidecar demo --once
    sezzle-sidecar demo --fleet
";

#[cfg(feature = "simulator")]
pub(super) const SIMULATE: &str = "\
The simulated gateway reads no configuration. Tests control the gateway over
HTTP below /_simulator/: a test plays the shopper, changes settings, scripts
failures, sends webhooks, and reads the requests that arrived. The command
prints lines to try.

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

pub(super) const CERTIFICATE: &str = "\
Output:
  The folder gets NAME.pem and NAME.key for the first name, and authority.pem
  and authority.key unless both are there. Keys have mode 0600. The command
  overwrites no file. Standard output has the next steps.

Exit codes:
  0   written
  64  wrong usage
  1   a file is there already, or cannot be read or written

Examples:
  For a sidecar that services of this machine and of a network call:
    sezzle-sidecar certificate sidecar.internal localhost 127.0.0.1
  For a caller that shows who it is:
    sezzle-sidecar certificate spiffe://example/shop --out callers
";

pub(super) const COMPLETIONS: &str = "\
Exit codes:
  0   printed
  64  wrong usage

Examples:
  Bash, for one shell and for all later ones:
    source <(sezzle-sidecar completions bash)
    sezzle-sidecar completions bash > /etc/bash_completion.d/sezzle-sidecar
  Zsh, in any directory of $fpath, and fish:
    sezzle-sidecar completions zsh > ~/.zsh/functions/_sezzle-sidecar
    sezzle-sidecar completions fish > /etc/fish/completions/sezzle-sidecar.fish
";
