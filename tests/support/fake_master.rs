//! A master that says exactly what the test says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::PATIENCE;

/// The name of a stream that nobody else has.
pub const ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// Answers one replica's connection as the test says; the commands that it sends are read one by one.
pub struct FakeMaster {
    pub listener: TcpListener,
}

impl FakeMaster {
    pub fn new() -> FakeMaster {
        FakeMaster { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The next connection, with the answers to its commands up to PSYNC; stops after `steps` of them.
    pub fn accept(&self, steps: usize) -> TcpStream {
        let (mut stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..steps {
            match read_command(&mut stream).first().map(String::as_str) {
                Some("PING") => stream.write_all(b"+PONG\r\n").unwrap(),
                Some("REPLCONF") => stream.write_all(b"+OK\r\n").unwrap(),
                other => panic!("{other:?}"),
            }
        }
        stream
    }

    /// Sends the next replica that asks an empty dump, and its stream from 0 on.
    pub fn full_sync(&self) -> Stream {
        let (mut stream, _) = self.psync();
        write!(stream, "+FULLRESYNC {ID} 0\r\n$18\r\n").unwrap();
        stream.write_all(b"REDIS0011\xff\0\0\0\0\0\0\0\0").unwrap();
        Stream(stream, 0)
    }

    /// Lets the next replica that asks go on; with the offset that it wants next.
    pub fn go_on(&self) -> Stream {
        let (mut stream, words) = self.psync();
        assert_eq!(words[1], ID);
        stream.write_all(b"+CONTINUE\r\n").unwrap();
        Stream(stream, words[2].parse::<u64>().unwrap() - 1)
    }

    /// A connection that has come to PSYNC; its words.
    pub fn psync(&self) -> (TcpStream, Vec<String>) {
        // PING, listening-port, capa, version.
        let mut stream = self.accept(4);
        let words = read_command(&mut stream);
        assert_eq!(words[0], "PSYNC");
        (stream, words)
    }
}

impl Stream {
    /// Says a command.
    pub fn say(&mut self, words: &[&str]) {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.write_all(command.as_bytes()).unwrap();
        self.1 += command.len() as u64;
    }

    /// Bytes of the stream that were said.
    pub fn offset(&self) -> u64 {
        self.1
    }

    /// The replica has closed the connection.
    pub fn wait_closed(&mut self) {
        let mut rest = Vec::new();
        // It may have been reset, since what was sent last has not been read.
        let _ = self.0.read_to_end(&mut rest);
    }
}

/// A stream that a replica follows, and how many bytes of it were said.
pub struct Stream(TcpStream, u64);

/// Reads one command; empty if none comes.
pub fn read_command(stream: &mut TcpStream) -> Vec<String> {
    let mut line = || {
        let mut line = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte).unwrap_or(0) == 1 {
            line.push(byte[0]);
            if line.ends_with(b"\r\n") {
                break;
            }
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    };
    let count: usize = line().strip_prefix('*').and_then(|n| n.parse().ok()).unwrap_or(0);
    (0..count)
        .map(|_| {
            line();
            line()
        })
        .collect()
}
