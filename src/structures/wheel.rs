//! placeholder
#[derive(Default)]
pub struct Wheel(Vec<(u64, u64)>);
impl Wheel {
    pub fn insert(&mut self, hash: u64, deadline: u64) {
        self.0.push((hash, deadline));
    }
    pub fn advance(&mut self, now: u64, _budget: usize, mut f: impl FnMut(u64, u64)) -> bool {
        self.0.retain(|&(h, d)| {
            if d <= now {
                f(h, d);
                false
            } else {
                true
            }
        });
        false
    }
    pub fn sweep(&mut self, _b: usize, mut keep: impl FnMut(u64, u64) -> bool) {
        self.0.retain(|&(h, d)| keep(h, d));
    }
    pub fn next_deadline(&self, _now: u64) -> Option<u64> {
        self.0.iter().map(|x| x.1).min()
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
    pub fn memory(&self) -> usize {
        0
    }
}
