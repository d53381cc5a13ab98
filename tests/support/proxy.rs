//! A link that a test can cut: connections to its port are forwarded to a server, until the test says otherwise.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct Proxy {
    port: u16,
    link: Arc<Link>,
}

#[derive(Default)]
struct Link {
    target: AtomicU16,
    cut: AtomicBool,
    frozen: AtomicBool,
    over: AtomicBool,
    /// Bytes per second and direction; zero for no limit.
    rate: AtomicU64,
    to_target: AtomicU64,
    to_client: AtomicU64,
    accepted: AtomicUsize,
    /// Both ends of every connection, to be shut down by a cut.
    ends: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A proxy to a port of this machine.
    pub fn to(target: u16) -> Proxy {
        let (port, listener) = loop {
            let port = super::free_port();
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                break (port, listener);
            }
        };
        let link = Arc::new(Link { target: AtomicU16::new(target), ..Link::default() });
        let accepting = Arc::clone(&link);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.over.load(SeqCst) {
                    return;
                }
                // While the link is cut a client is turned away at once: it is dropped here.
                if let Ok(client) = client {
                    accepting.connect(client);
                }
            }
        });
        Proxy { port, link }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections and lets none through until `heal`.
    pub fn cut(&self) {
        self.link.cut.store(true, SeqCst);
        self.link.end_all();
    }

    /// Ends all connections; new ones are let through.
    pub fn reset(&self) {
        self.link.end_all();
    }

    /// Nothing is forwarded any more, but nobody is told: a cable was pulled.
    pub fn freeze(&self) {
        self.link.frozen.store(true, SeqCst);
    }

    /// The link works again, at full speed. What was frozen goes on.
    pub fn heal(&self) {
        self.link.rate.store(0, SeqCst);
        self.link.frozen.store(false, SeqCst);
        self.link.cut.store(false, SeqCst);
    }

    /// Limits each direction of each connection.
    pub fn throttle(&self, bytes_per_s: u64) {
        self.link.rate.store(bytes_per_s, SeqCst);
    }

    /// New connections go to another server.
    pub fn point_at(&self, target: u16) {
        self.link.target.store(target, SeqCst);
    }

    /// Bytes that went from the clients to the target.
    pub fn to_target(&self) -> u64 {
        self.link.to_target.load(SeqCst)
    }

    /// Bytes that went from the target to the clients.
    pub fn to_client(&self) -> u64 {
        self.link.to_client.load(SeqCst)
    }

    /// How many connections were let through.
    pub fn accepted(&self) -> usize {
        self.link.accepted.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.link.over.store(true, SeqCst);
        self.link.heal_for_good();
        self.link.end_all();
        // Wakes the accepting thread, which sees that it is over.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Link {
    fn connect(self: &Arc<Link>, client: TcpStream) {
        if self.cut.load(SeqCst) {
            return;
        }
        let Ok(target) = TcpStream::connect(("127.0.0.1", self.target.load(SeqCst))) else { return };
        let _ = client.set_nodelay(true);
        let _ = target.set_nodelay(true);
        let (Ok(client_end), Ok(target_end)) = (client.try_clone(), target.try_clone()) else { return };
        let (Ok(client_out), Ok(target_out)) = (client.try_clone(), target.try_clone()) else { return };
        {
            let mut ends = self.ends.lock().unwrap();
            // A cut that came meanwhile did not see this connection.
            if self.cut.load(SeqCst) || self.over.load(SeqCst) {
                return;
            }
            ends.extend([client_end, target_end]);
        }
        self.accepted.fetch_add(1, SeqCst);
        let link = Arc::clone(self);
        std::thread::spawn(move || link.forward(client, target_out, &link.to_target));
        let link = Arc::clone(self);
        std::thread::spawn(move || link.forward(target, client_out, &link.to_client));
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
        let mut buf = vec![0; 64 * 1024];
        loop {
            let rate = self.rate.load(SeqCst);
            // Twenty portions a second keep a slow link steady.
            let portion = if rate == 0 { buf.len() } else { ((rate / 20).max(1) as usize).min(buf.len()) };
            let Ok(len @ 1..) = from.read(&mut buf[..portion]) else { break };
            while self.frozen.load(SeqCst) && !self.over.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
            }
            if to.write_all(&buf[..len]).is_err() {
                break;
            }
            count.fetch_add(len as u64, SeqCst);
            if let Some(pause_us) = (len as u64 * 1_000_000).checked_div(rate) {
                std::thread::sleep(Duration::from_micros(pause_us));
            }
        }
        // The other direction may have more to say: only this one ends.
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    }

    fn end_all(&self) {
        for end in self.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn heal_for_good(&self) {
        self.frozen.store(false, SeqCst);
        self.rate.store(0, SeqCst);
    }
}
