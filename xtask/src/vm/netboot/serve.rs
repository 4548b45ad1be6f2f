//! The HTTP side of the boot server: one request per process, on standard input and output, which QEMU connects with the node.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Component, Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;

/// Arguments of the hidden verb.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// The folder whose files are offered
    pub tree: PathBuf,
}

/// Longest request.
const REQUEST: u64 = 16 << 10;

/// Answers one request.
///
/// # Errors
/// When the other side goes away.
pub fn serve(args: &ServeArgs) -> Result<ExitCode> {
    answer(&args.tree, &mut BufReader::new(io::stdin().lock()), &mut io::stdout().lock()).context("could not answer")?;
    Ok(ExitCode::SUCCESS)
}

fn answer(tree: &Path, request: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
    let mut request = Read::take(request, REQUEST);
    let mut first = String::new();
    request.read_line(&mut first)?;
    // All of it is read before it is answered: what is left would reset the connection.
    let mut line = String::new();
    while request.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    let mut words = first.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let file = below(tree, path).filter(|path| path.is_file()).map(File::open).transpose()?;
    let (status, length) = match &file {
        _ if method != "GET" && method != "HEAD" => ("405 Method Not Allowed", 0),
        Some(file) => ("200 OK", file.metadata()?.len()),
        None => ("404 Not Found", 0),
    };
    write!(to, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    if let (Some(mut file), "GET") = (file, method) {
        io::copy(&mut file, to)?;
    }
    to.flush()
}

/// The file that a path of a request means; none outside of the folder.
fn below(tree: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path.strip_prefix('/')?);
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| tree.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: &str) -> String {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("os")).unwrap();
        std::fs::write(tree.path().join("os/file"), "content").unwrap();
        let mut said = Vec::new();
        answer(tree.path(), &mut request.as_bytes(), &mut said).unwrap();
        String::from_utf8(said).unwrap()
    }

    #[test]
    fn files_of_the_folder_are_given_and_nothing_else() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n";
        assert_eq!(asked("GET /os/file HTTP/1.1\r\nHost: x\r\n\r\n"), format!("{ok}content"));
        assert_eq!(asked("HEAD /os/file HTTP/1.1\r\n\r\n"), ok);
        for path in ["/os", "/none", "/../etc/passwd", "//etc/passwd", "/os/../os/file", "os/file", ""] {
            assert!(asked(&format!("GET {path} HTTP/1.1\r\n\r\n")).starts_with("HTTP/1.1 404 "), "{path}");
        }
        assert!(asked("POST /os/file HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    }
}
