//! A network in memory: what the kernel is to a server, for several servers in one process whose tests decide when a
//! byte arrives.
//!
//! A [`Network`] holds *wires*, each with two ends that are as sockets are: non-blocking, edge-triggered, of limited
//! capacity, closed by halves. A server has a [`Host`] in it, which is its reactor. What one end writes is *on its way*
//! until it is delivered to the other. A prompt network delivers at once; on any other a conductor does, by
//! [`Network::establish`], [`Network::deliver`] and [`Network::reset`], in whatever order and as late as it likes: bytes
//! of one direction keep their order, and nothing else is promised, as with TCP.
//!
//! Everything is in one table under one lock, which nobody holds longer than one call; wires are numbered, so that a
//! conductor that draws lots sees the same wires in the same order every time.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::reactor::{Event, Source};

/// Bytes that one end takes while the other does not read, half of them on their way.
const CAPACITY: usize = 128 * 1024;
/// Bytes of a file that are read at once.
const PIECE: usize = 16 * 1024;
/// Ports from here on are given to those who connect.
const FIRST_PORT: u16 = 20_000;

/// A network; clones are the same one.
#[derive(Clone, Debug)]
pub struct Network(Arc<Mutex<Fabric>>);

/// A wire by number. Never given twice.
pub type WireId = u64;

#[derive(Debug)]
struct Fabric {
    prompt: bool,
    capacity: usize,
    wires: BTreeMap<WireId, Wire>,
    next_wire: WireId,
    next_port: u16,
    listeners: BTreeMap<SocketAddr, Listening>,
    /// What has happened to the sources of each host since it last asked.
    events: BTreeMap<HostId, Vec<Event>>,
    next_host: HostId,
}

type HostId = u32;

#[derive(Debug, Default)]
struct Listening {
    /// Wires that wait to be accepted.
    queue: VecDeque<WireId>,
    watched_by: Option<(HostId, Source)>,
}

/// The first end is the one that has connected.
#[derive(Debug)]
struct Wire {
    established: bool,
    /// One of its machines has lost its power: nothing of it arrives any more.
    lost: bool,
    ends: [End; 2],
}

#[derive(Debug)]
struct End {
    addr: SocketAddr,
    /// Written here and on its way to the other end.
    sent: VecDeque<u8>,
    /// Arrived here and not read.
    arrived: VecDeque<u8>,
    /// Nothing more is going to be written here; and the other end has been told so.
    finished: bool,
    finish_delivered: bool,
    broken: Option<ErrorKind>,
    /// Somebody holds it.
    open: bool,
    watched_by: Option<(HostId, Source)>,
    /// Whether its watcher wants to hear of room to write, too.
    watches_writes: bool,
}

impl End {
    fn new(addr: SocketAddr) -> End {
        End {
            addr,
            sent: VecDeque::new(),
            arrived: VecDeque::new(),
            finished: false,
            finish_delivered: false,
            broken: None,
            open: true,
            watched_by: None,
            watches_writes: false,
        }
    }
}

/// What stands on a wire, for a conductor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireState {
    pub id: WireId,
    pub established: bool,
    /// See [`Network::lose`].
    pub lost: bool,
    /// Who has connected, and to whom.
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// Bytes on their way from each end to the other, and whether the end of the stream is behind them and has not
    /// been delivered.
    pub sent: [usize; 2],
    pub finishing: [bool; 2],
}

impl WireState {
    /// Whether there is something to deliver that this end has sent.
    pub fn has_sent(&self, end: usize) -> bool {
        self.established && !self.lost && (self.sent[end] > 0 || self.finishing[end])
    }
}

impl Default for Network {
    fn default() -> Self {
        Network::new(false)
    }
}

impl Network {
    /// A network without hosts. A prompt one delivers at once what is sent.
    pub fn new(prompt: bool) -> Network {
        Network(Arc::new(Mutex::new(Fabric {
            prompt,
            capacity: CAPACITY,
            wires: BTreeMap::new(),
            next_wire: 0,
            next_port: FIRST_PORT,
            listeners: BTreeMap::new(),
            events: BTreeMap::new(),
            next_host: 0,
        })))
    }

    /// Bytes that each end takes before it refuses more, from now on.
    pub fn set_capacity(&self, bytes: usize) {
        self.lock().capacity = bytes;
    }

    /// A machine in this network, which can listen and connect from that address.
    pub fn host(&self, ip: IpAddr) -> Host {
        let mut fabric = self.lock();
        let id = fabric.next_host;
        fabric.next_host += 1;
        fabric.events.insert(id, Vec::new());
        Host { network: self.clone(), id, ip }
    }

    /// Begins a connection. It is made, or refused, when the network is prompt or its conductor says so.
    pub fn connect(&self, from: IpAddr, to: SocketAddr) -> Socket {
        let mut fabric = self.lock();
        let port = fabric.next_port;
        fabric.next_port = fabric.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        let wire = fabric.next_wire;
        fabric.next_wire += 1;
        let ends = [End::new(SocketAddr::new(from, port)), End::new(to)];
        fabric.wires.insert(wire, Wire { established: false, lost: false, ends });
        if fabric.prompt {
            fabric.establish(wire);
        }
        Socket { network: self.clone(), wire, end: 0 }
    }

    /// All wires, oldest first.
    pub fn wires(&self) -> Vec<WireState> {
        let fabric = self.lock();
        let state = |(&id, wire): (&WireId, &Wire)| WireState {
            id,
            established: wire.established,
            lost: wire.lost,
            from: wire.ends[0].addr,
            to: wire.ends[1].addr,
            sent: [wire.ends[0].sent.len(), wire.ends[1].sent.len()],
            finishing: [0, 1].map(|end| wire.ends[end].finished && !wire.ends[end].finish_delivered),
        };
        fabric.wires.iter().map(state).collect()
    }

    /// Answers an attempt to connect: who listens there has one more to accept; where nobody listens it is refused.
    pub fn establish(&self, wire: WireId) {
        self.lock().establish(wire);
    }

    /// Delivers up to so many bytes of what one end has sent, and the end of its stream behind the last. Returns how
    /// many there was room for.
    pub fn deliver(&self, wire: WireId, from: usize, at_most: usize) -> usize {
        self.lock().deliver(wire, from, at_most)
    }

    /// Breaks a wire: what is on its way is lost, and both ends find an error behind what has arrived.
    pub fn reset(&self, wire: WireId) {
        let mut fabric = self.lock();
        for end in [0, 1] {
            fabric.break_end(wire, end, ErrorKind::ConnectionReset);
        }
        fabric.forget_closed(wire);
    }

    /// Forgets a wire without a word, as when one of the machines has lost its power: what is on its way is lost; the
    /// other end waits for ever, unless it asks.
    pub fn lose(&self, wire: WireId) {
        let mut fabric = self.lock();
        if let Some(lost) = fabric.wires.get_mut(&wire) {
            lost.lost = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Fabric> {
        // A test that has panicked with the lock has its say in its own panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fabric {
    fn establish(&mut self, id: WireId) {
        let Some(wire) = self.wires.get_mut(&id).filter(|wire| !wire.established && !wire.lost) else {
            return;
        };
        let to = wire.ends[1].addr;
        let Some(listening) = self.listeners.get_mut(&to) else {
            wire.ends[1].open = false;
            self.break_end(id, 0, ErrorKind::ConnectionRefused);
            return self.forget_closed(id);
        };
        wire.established = true;
        listening.queue.push_back(id);
        if let Some((host, source)) = listening.watched_by {
            self.notify(host, Event { readable: true, ..Event::of(source) });
        }
        self.notify_end(id, 0);
        self.deliver_promptly(id);
    }

    fn deliver(&mut self, id: WireId, from: usize, at_most: usize) -> usize {
        let capacity = self.capacity;
        let Some(wire) = self.wires.get_mut(&id).filter(|wire| wire.established && !wire.lost) else {
            return 0;
        };
        let [a, b] = &mut wire.ends;
        let (sender, receiver) = if from == 0 { (a, b) } else { (b, a) };
        let was_full = sender.sent.len() >= capacity / 2;
        let room = capacity.saturating_sub(receiver.arrived.len());
        let moved = sender.sent.len().min(room).min(at_most);
        receiver.arrived.extend(sender.sent.drain(..moved));
        let ends = sender.sent.is_empty() && sender.finished && !sender.finish_delivered;
        sender.finish_delivered |= ends;
        let unwanted = moved > 0 && !receiver.open;
        if unwanted {
            // Nobody is there to read it: the sender hears of that.
            self.break_end(id, from, ErrorKind::ConnectionReset);
        } else {
            if moved > 0 || ends {
                self.notify_end(id, 1 - from);
            }
            if moved > 0 && was_full {
                self.notify_end(id, from);
            }
        }
        self.forget_closed(id);
        moved
    }

    fn deliver_promptly(&mut self, id: WireId) {
        if self.prompt {
            for end in [0, 1] {
                self.deliver(id, end, usize::MAX);
            }
        }
    }

    fn break_end(&mut self, id: WireId, end: usize, why: ErrorKind) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.ends[end].broken.get_or_insert(why);
        wire.ends.iter_mut().for_each(|end| end.sent.clear());
        self.notify_end(id, end);
    }

    /// A wire whose ends nobody holds is gone, once nothing is on its way that somebody could want.
    fn forget_closed(&mut self, id: WireId) {
        let gone = self.wires.get(&id).is_some_and(|wire| wire.ends.iter().all(|end| !end.open));
        if gone {
            self.wires.remove(&id);
        }
    }

    /// Tells the watcher of an end how it stands.
    fn notify_end(&mut self, id: WireId, end: usize) {
        let Some(wire) = self.wires.get(&id) else { return };
        let Some((host, source)) = wire.ends[end].watched_by else { return };
        let event = wire.event(end, self.capacity, source);
        if event.says_something() {
            self.notify(host, event);
        }
    }

    fn notify(&mut self, host: HostId, event: Event) {
        let Some(events) = self.events.get_mut(&host) else { return };
        match events.iter_mut().find(|known| known.source == event.source) {
            Some(known) => known.join(&event),
            None => events.push(event),
        }
    }

    /// A source is not watched any more: what has happened to it is nobody's business.
    fn unwatch(&mut self, watched_by: Option<(HostId, Source)>) {
        if let Some((host, source)) = watched_by
            && let Some(events) = self.events.get_mut(&host)
        {
            events.retain(|event| event.source != source);
        }
    }
}

impl Wire {
    fn event(&self, end: usize, capacity: usize, source: Source) -> Event {
        let (here, there) = (&self.ends[end], &self.ends[1 - end]);
        let broken = here.broken.is_some();
        Event {
            source,
            readable: !here.arrived.is_empty(),
            writable: self.established && here.watches_writes && here.sent.len() < capacity / 2,
            read_closed: there.finish_delivered,
            write_closed: false,
            error: broken,
        }
    }
}

/// A server's machine: its reactor, where its sockets are in memory.
#[derive(Debug)]
pub struct Host {
    network: Network,
    id: HostId,
    ip: IpAddr,
}

impl Host {
    /// The network that it is in.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Takes what has happened since this was last asked.
    pub fn take_events(&self, into: &mut Vec<Event>) {
        if let Some(events) = self.network.lock().events.get_mut(&self.id) {
            into.append(events);
        }
    }

    /// Whether something has happened.
    pub fn has_events(&self) -> bool {
        self.network.lock().events.get(&self.id).is_some_and(|events| !events.is_empty())
    }

    /// Something has happened to a source that is no wire (a child).
    pub fn notify(&self, source: Source) {
        self.network.lock().notify(self.id, Event { readable: true, ..Event::of(source) });
    }

    /// Begins a connection from here.
    pub fn connect(&self, to: SocketAddr) -> Socket {
        self.network.connect(self.ip, to)
    }

    /// Listens, on all addresses of the host if the address is unspecified.
    pub fn listen(&self, addr: SocketAddr) -> io::Result<MemoryListener> {
        let here = if addr.ip().is_unspecified() { self.ip } else { addr.ip() };
        if here != self.ip || addr.is_ipv4() != self.ip.is_ipv4() {
            return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
        }
        let at = SocketAddr::new(here, addr.port());
        let mut fabric = self.network.lock();
        if fabric.listeners.contains_key(&at) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        fabric.listeners.insert(at, Listening::default());
        Ok(MemoryListener { network: self.network.clone(), at, addr })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.network.lock().events.remove(&self.id);
    }
}

/// A listening socket in memory.
#[derive(Debug)]
pub struct MemoryListener {
    network: Network,
    /// Where it is reached, and what it was bound to.
    at: SocketAddr,
    addr: SocketAddr,
}

impl MemoryListener {
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn watch(&self, host: &Host, source: Source) {
        let mut fabric = self.network.lock();
        let Some(listening) = fabric.listeners.get_mut(&self.at) else { return };
        listening.watched_by = Some((host.id, source));
        if !listening.queue.is_empty() {
            fabric.notify(host.id, Event { readable: true, ..Event::of(source) });
        }
    }

    pub fn unwatch(&self) {
        let mut fabric = self.network.lock();
        let watched = fabric.listeners.get_mut(&self.at).and_then(|listening| listening.watched_by.take());
        fabric.unwatch(watched);
    }

    /// The next connection, if one waits.
    pub fn accept(&self) -> Option<Socket> {
        let wire = self.network.lock().listeners.get_mut(&self.at)?.queue.pop_front()?;
        Some(Socket { network: self.network.clone(), wire, end: 1 })
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        let mut fabric = self.network.lock();
        let Some(listening) = fabric.listeners.remove(&self.at) else { return };
        fabric.unwatch(listening.watched_by);
        for wire in listening.queue {
            if let Some(wire) = fabric.wires.get_mut(&wire) {
                wire.ends[1].open = false;
            }
            fabric.break_end(wire, 0, ErrorKind::ConnectionReset);
            fabric.forget_closed(wire);
        }
    }
}

/// One end of a wire, as its owner has it.
#[derive(Debug)]
pub struct Socket {
    network: Network,
    wire: WireId,
    end: usize,
}

impl Socket {
    /// The wire that it is an end of.
    pub fn wire(&self) -> WireId {
        self.wire
    }

    /// Reads what has arrived. An error if nothing has ([`ErrorKind::WouldBlock`]), 0 at the end of the stream.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut fabric = self.network.lock();
        let Some(wire) = fabric.wires.get_mut(&self.wire) else {
            return Err(ErrorKind::ConnectionReset.into());
        };
        let closed = wire.ends[1 - self.end].finish_delivered;
        let here = &mut wire.ends[self.end];
        let got = here.arrived.len().min(buf.len());
        if got == 0 && !buf.is_empty() {
            return match here.broken {
                Some(why) => Err(why.into()),
                None if closed => Ok(0),
                None => Err(ErrorKind::WouldBlock.into()),
            };
        }
        for (to, byte) in buf.iter_mut().zip(here.arrived.drain(..got)) {
            *to = byte;
        }
        fabric.deliver_promptly(self.wire);
        Ok(got)
    }

    /// Reads up to `room` bytes to the end of `into`, which has that room, and what comes then to `beyond`.
    pub fn read_into(&self, into: &mut Vec<u8>, room: usize, beyond: &mut [u8]) -> io::Result<usize> {
        let mut bytes = vec![0; room + beyond.len()];
        let got = self.read(&mut bytes)?;
        let here = got.min(room);
        into.extend_from_slice(&bytes[..here]);
        beyond[..got - here].copy_from_slice(&bytes[here..got]);
        Ok(got)
    }

    /// Writes bytes of a file, from `offset` on.
    pub fn send_file(&self, file: &impl AsFd, offset: u64, len: usize) -> io::Result<usize> {
        let mut bytes = vec![0; len.min(PIECE)];
        let got = nix::sys::uio::pread(file, &mut bytes, offset as libc::off_t)?;
        if got == 0 && len > 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.write(&[io::IoSlice::new(&bytes[..got])])
    }

    /// Writes as much as there is room for. An error if there is none ([`ErrorKind::WouldBlock`]).
    pub fn write(&self, pieces: &[io::IoSlice]) -> io::Result<usize> {
        let mut fabric = self.network.lock();
        let capacity = fabric.capacity;
        let Some(wire) = fabric.wires.get_mut(&self.wire) else { return Err(ErrorKind::BrokenPipe.into()) };
        let established = wire.established;
        let here = &mut wire.ends[self.end];
        if here.broken.is_some() || here.finished {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut room = if established { (capacity / 2).saturating_sub(here.sent.len()) } else { 0 };
        let before = here.sent.len();
        for piece in pieces {
            let taken = piece.len().min(room);
            here.sent.extend(&piece[..taken]);
            room -= taken;
        }
        let written = here.sent.len() - before;
        if written == 0 && pieces.iter().any(|piece| !piece.is_empty()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        fabric.deliver_promptly(self.wire);
        Ok(written)
    }

    /// Nothing more is going to be written here: the other end finds the end of the stream behind what was.
    pub fn finish(&self) {
        let mut fabric = self.network.lock();
        if let Some(wire) = fabric.wires.get_mut(&self.wire) {
            wire.ends[self.end].finished = true;
        }
        fabric.deliver_promptly(self.wire);
    }

    /// The error that an attempt to connect has ended with, once.
    pub fn take_error(&self) -> Option<io::Error> {
        let mut fabric = self.network.lock();
        let wire = fabric.wires.get_mut(&self.wire)?;
        match wire.ends[self.end].broken? {
            ErrorKind::ConnectionRefused => Some(io::Error::from_raw_os_error(libc::ECONNREFUSED)),
            why => Some(why.into()),
        }
    }

    pub fn peer(&self) -> Option<SocketAddr> {
        self.network.lock().wires.get(&self.wire).map(|wire| wire.ends[1 - self.end].addr)
    }

    pub fn local(&self) -> Option<SocketAddr> {
        self.network.lock().wires.get(&self.wire).map(|wire| wire.ends[self.end].addr)
    }

    /// The host hears under this name what happens here from now on, and how it stands now; of room to write if it wants
    /// to.
    pub fn watch(&self, host: &Host, source: Source, writes: bool) {
        self.unwatch();
        let mut fabric = self.network.lock();
        let capacity = fabric.capacity;
        let Some(wire) = fabric.wires.get_mut(&self.wire) else { return };
        wire.ends[self.end].watched_by = Some((host.id, source));
        wire.ends[self.end].watches_writes = writes;
        let event = wire.event(self.end, capacity, source);
        if event.says_something() {
            fabric.notify(host.id, event);
        }
    }

    pub fn unwatch(&self) {
        let mut fabric = self.network.lock();
        let watched = fabric.wires.get_mut(&self.wire).and_then(|wire| wire.ends[self.end].watched_by.take());
        fabric.unwatch(watched);
    }
}

impl Drop for Socket {
    /// What was written is still on its way; what has arrived and was not read is lost, and the other end is told.
    fn drop(&mut self) {
        self.unwatch();
        let mut fabric = self.network.lock();
        let Some(wire) = fabric.wires.get_mut(&self.wire) else { return };
        let here = &mut wire.ends[self.end];
        here.open = false;
        here.finished = true;
        let unread = !here.arrived.is_empty();
        if wire.lost {
            // Nobody is told.
        } else if unread || !wire.established {
            fabric.break_end(self.wire, 1 - self.end, ErrorKind::ConnectionReset);
        } else {
            fabric.deliver_promptly(self.wire);
        }
        fabric.forget_closed(self.wire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSlice;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

    fn server(network: &Network) -> (Host, MemoryListener) {
        let host = network.host("10.0.0.1".parse().unwrap());
        let listener = host.listen("0.0.0.0:6379".parse().unwrap()).unwrap();
        listener.watch(&host, Source::Listener(0));
        (host, listener)
    }

    fn connect(network: &Network) -> Socket {
        network.connect(CLIENT, "10.0.0.1:6379".parse().unwrap())
    }

    fn events(host: &Host) -> Vec<Event> {
        let mut events = Vec::new();
        host.take_events(&mut events);
        events
    }

    fn write(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        socket.write(&[IoSlice::new(bytes)])
    }

    fn read(socket: &Socket) -> Result<Vec<u8>, ErrorKind> {
        let mut buf = [0; 1000];
        socket.read(&mut buf).map(|n| buf[..n].to_vec()).map_err(|why| why.kind())
    }

    #[test]
    fn a_prompt_network_needs_no_conductor() {
        let network = Network::new(true);
        let (host, listener) = server(&network);
        let client = connect(&network);
        write(&client, b"PING").unwrap();
        assert_eq!(events(&host), [Event { readable: true, ..Event::of(Source::Listener(0)) }]);
        let accepted = listener.accept().unwrap();
        assert!(listener.accept().is_none());
        accepted.watch(&host, Source::Client(3), true);
        let both = Event { readable: true, writable: true, ..Event::of(Source::Client(3)) };
        assert_eq!(events(&host), [both]);
        assert_eq!(read(&accepted), Ok(b"PING".to_vec()));
        assert_eq!(read(&accepted), Err(ErrorKind::WouldBlock));
        write(&accepted, b"PONG").unwrap();
        assert_eq!(read(&client), Ok(b"PONG".to_vec()));
        client.finish();
        assert!(events(&host)[0].read_closed);
        assert_eq!(read(&accepted), Ok(vec![]));
        // Its other half is open still.
        write(&accepted, b"bye").unwrap();
        assert_eq!(read(&client), Ok(b"bye".to_vec()));
        drop(accepted);
        assert_eq!(read(&client), Ok(vec![]));
        drop(client);
        assert_eq!(network.wires(), []);
    }

    #[test]
    fn a_conductor_decides_what_arrives_and_when() {
        let network = Network::new(false);
        let (host, listener) = server(&network);
        let client = connect(&network);
        assert_eq!(write(&client, b"early").unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(listener.accept().is_none());
        network.establish(client.wire());
        let accepted = listener.accept().unwrap();
        accepted.watch(&host, Source::Client(0), true);
        events(&host);
        write(&client, b"abcdef").unwrap();
        client.finish();
        assert_eq!((read(&accepted), events(&host).len()), (Err(ErrorKind::WouldBlock), 0));
        assert!(network.wires()[0].has_sent(0) && !network.wires()[0].has_sent(1));
        assert_eq!(network.deliver(client.wire(), 0, 4), 4);
        assert!(!events(&host)[0].read_closed, "the end comes behind the last byte");
        assert_eq!(read(&accepted), Ok(b"abcd".to_vec()));
        assert_eq!(network.deliver(client.wire(), 0, 4), 2);
        assert!(events(&host)[0].read_closed);
        assert_eq!((read(&accepted), read(&accepted)), (Ok(b"ef".to_vec()), Ok(vec![])));
    }

    #[test]
    fn an_end_that_is_full_says_so_and_tells_when_it_is_not() {
        let network = Network::new(false);
        network.set_capacity(8);
        let (host, listener) = server(&network);
        let client = connect(&network);
        network.establish(client.wire());
        let accepted = listener.accept().unwrap();
        accepted.watch(&host, Source::Client(0), true);
        events(&host);
        assert_eq!(write(&accepted, b"abcdef").unwrap(), 4);
        assert_eq!(write(&accepted, b"ef").unwrap_err().kind(), ErrorKind::WouldBlock);
        network.deliver(client.wire(), 1, usize::MAX);
        assert!(events(&host)[0].writable);
        assert_eq!(write(&accepted, b"efgh").unwrap(), 4);
        network.deliver(client.wire(), 1, usize::MAX);
        assert_eq!(write(&accepted, b"ijkl").unwrap(), 4);
        // Nobody reads: what arrives has its limit too.
        assert_eq!(network.deliver(client.wire(), 1, usize::MAX), 0);
        assert_eq!(read(&client), Ok(b"abcdefgh".to_vec()));
    }

    #[test]
    fn nobody_listens_and_wires_break() {
        let network = Network::new(false);
        let host = network.host("10.0.0.2".parse().unwrap());
        let nobody = host.connect("10.0.0.1:6379".parse().unwrap());
        nobody.watch(&host, Source::Link, true);
        network.establish(nobody.wire());
        assert!(events(&host)[0].error);
        assert_eq!(nobody.take_error().unwrap().raw_os_error(), Some(libc::ECONNREFUSED));

        let (_, listener) = server(&network);
        let client = connect(&network);
        network.establish(client.wire());
        let accepted = listener.accept().unwrap();
        write(&client, b"lost").unwrap();
        network.reset(client.wire());
        assert_eq!(read(&accepted), Err(ErrorKind::ConnectionReset));
        assert_eq!(write(&client, b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);

        // Who closes with something unread has not heard it.
        let client = connect(&network);
        network.establish(client.wire());
        let accepted = listener.accept().unwrap();
        write(&client, b"unread").unwrap();
        network.deliver(client.wire(), 0, 9);
        drop(accepted);
        assert_eq!(read(&client), Err(ErrorKind::ConnectionReset));
    }

    #[test]
    fn a_wire_that_is_lost_says_nothing() {
        let network = Network::new(false);
        let (host, listener) = server(&network);
        let client = connect(&network);
        network.establish(client.wire());
        let accepted = listener.accept().unwrap();
        accepted.watch(&host, Source::Client(0), true);
        events(&host);
        write(&client, b"lost").unwrap();
        network.lose(client.wire());
        network.deliver(client.wire(), 0, 9);
        assert_eq!((read(&accepted), events(&host).len()), (Err(ErrorKind::WouldBlock), 0));
        drop(listener);
        assert!(host.listen("0.0.0.0:6379".parse().unwrap()).is_ok());
        assert!(host.listen("[::]:6379".parse().unwrap()).is_err());
    }
}
