//! A web server that serves one file: nginx where it is installed, and else the plainest there is.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

const START_WITHIN: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(20);

/// A server in a process of its own, which ends when this is dropped.
pub(crate) struct WebServer {
    child: Child,
    pid: u32,
    address: SocketAddr,
    path: String,
    name: &'static str,
}

/// The arguments of the plain server.
#[derive(clap::Args, Debug)]
pub(crate) struct Plain {
    /// Where to listen
    listen: SocketAddr,
    /// What to serve, whatever is asked for
    file: PathBuf,
}

impl WebServer {
    /// Serves `file`, and nginx what lies beside it, until dropped; `folder` is where it may put files of its own.
    pub(crate) async fn start(file: &Path, folder: &Path) -> anyhow::Result<Self> {
        // Given back just before the server takes it.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let name = file.file_name().and_then(|name| name.to_str()).context("the layer's file has a plain name")?;
        let path = format!("/{name}");
        let (mut command, name) = match nginx() {
            Some(program) => {
                let configuration = folder.join("nginx.conf");
                let root = file.parent().context("the layer's file lies in a folder")?;
                std::fs::write(&configuration, nginx_configuration(address, root, folder))?;
                let mut command = Command::new(program);
                command.arg("-p").arg(folder).arg("-e").arg(folder.join("nginx.log")).arg("-c").arg(configuration);
                (command, "nginx with sendfile")
            }
            None => {
                let mut command = Command::new(std::env::current_exe().context("find this program")?);
                command.arg("serve-file").arg(address.to_string()).arg(file);
                (command, "plain server (no nginx here)")
            }
        };
        let mut child = command.stdin(Stdio::null()).kill_on_drop(true).spawn().context("start the web server")?;
        let pid = child.id().context("the web server has ended")?;
        let deadline = Instant::now() + START_WITHIN;
        while TcpStream::connect(address).await.is_err() {
            if let Some(how) = child.try_wait()? {
                bail!("the web server ended before it listened: {how}");
            }
            if Instant::now() > deadline {
                bail!("the web server does not listen after {START_WITHIN:?}");
            }
            tokio::time::sleep(GLANCE).await;
        }
        Ok(Self { child, pid, address, path, name })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }
}

impl std::fmt::Debug for WebServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebServer").field("child", &self.child).field("address", &self.address).finish_non_exhaustive()
    }
}

/// Where nginx is; /usr/sbin is not on everybody's path.
pub(crate) fn nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("nginx")).find(|program| program.is_file())
}

/// One process, so that whoever ends it ends all of it.
fn nginx_configuration(address: SocketAddr, root: &Path, folder: &Path) -> String {
    let (root, folder) = (root.display(), folder.display());
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {folder}/nginx.pid;\nevents {{}}\nhttp {{\n\
         access_log off;\nsendfile on;\nkeepalive_requests 1000000000;\nclient_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/fastcgi;\nuwsgi_temp_path {folder}/uwsgi;\nscgi_temp_path {folder}/scgi;\n\
         server {{\nlisten {address};\nroot {root};\n}}\n}}\n"
    )
}

/// Serves a file by copying it, to one client after another, until it is ended.
pub(crate) fn serve(plain: &Plain) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(plain.listen).await?;
        loop {
            let (mut socket, _) = listener.accept().await?;
            if let Err(error) = answer(&mut socket, &plain.file).await {
                eprintln!("a client was not served: {error:#}");
            }
        }
    })
}

async fn answer(socket: &mut TcpStream, path: &Path) -> anyhow::Result<()> {
    let mut head = BufReader::new(&mut *socket).lines();
    while head.next_line().await?.is_some_and(|line| !line.is_empty()) {}
    let mut file = tokio::fs::File::open(path).await?;
    let length = file.metadata().await?.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    tokio::io::copy(&mut file, socket).await?;
    Ok(socket.shutdown().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_is_told_all_that_it_would_look_for_elsewhere() {
        let text = nginx_configuration(([127, 0, 0, 1], 80).into(), Path::new("/files"), Path::new("/work"));
        assert!(text.contains("listen 127.0.0.1:80;") && text.contains("root /files;"), "{text}");
        assert_eq!(text.matches("/work/").count(), 6, "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count(), "{text}");
    }
}
