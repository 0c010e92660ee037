//! The primers of a run: each side makes one from some of the small files that it sends, tells the other side, and from then on
//! compresses small files with it.
//!
//! What goes into it are whole files, taken from all over the plan. What they cost in the primer they save themselves when
//! their turn comes; so it costs next to nothing. The first files do not wait for it, the others do, for a moment.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::SetOnce;
use tokio::task::spawn_blocking;

use super::control::Control;
use super::error::SessionError;
use super::packing::Packing;
use super::transfer::is_large;
use super::work::Work;
use crate::protocol::frame::{Frame, FrameError};
use crate::protocol::message::Message;
use crate::protocol::primer::{MAX_PRIMER, Primer, Priming};

/// With fewer files to send there is no primer, and of more at most one in so many is looked at.
const FEWEST: usize = 64;
const SHARE: usize = 4;
/// The most files that are looked at.
const MOST: usize = 512;
/// How long files wait for it.
const MOMENT: Duration = Duration::from_millis(100);
/// What a file costs that is in the primer, in bytes.
const REFERENCE: usize = 32;

/// Both primers of a run, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct Primers {
    /// None: there is none, and will be none.
    ours: SetOnce<Option<Arc<Priming>>>,
    /// Files that did not wait for it.
    hasty: AtomicUsize,
    /// None: the other side told none, and will not any more.
    theirs: SetOnce<Option<Primer>>,
}

impl Primers {
    /// What small files are compressed with from now on.
    pub(crate) fn ours(&self) -> Option<Arc<Priming>> {
        self.ours.get().cloned().flatten()
    }

    /// Resolves once it is known whether there is a primer of ours; at once for the first files, so that the line has something
    /// to do. What many channels ask for at the very beginning would cost
    /// more without it than it takes to be made; where a disk is slow it is not waited for.
    pub(crate) async fn made(&self) {
        if self.ours.get().is_none() && self.hasty.fetch_add(1, Ordering::Relaxed) >= FEWEST {
            let _ = tokio::time::timeout(MOMENT, self.ours.wait()).await;
        }
    }

    /// Takes in what the other side tells, once.
    fn hear(&self, told: &[u8]) -> Result<(), SessionError> {
        let primer = Primer::read(told).map_err(|_| SessionError::broke("it told a primer that is none"))?;
        self.theirs.set(Some(primer)).map_err(|_| SessionError::broke("it told a primer twice, or too late"))
    }

    /// From now on none is waited for.
    fn close(&self) {
        let _ = self.theirs.set(None);
    }

    /// As it is, or the content of a primed frame.
    pub(crate) async fn plain<'a>(&self, frame: Frame<'a>) -> Result<Frame<'a>, FrameError> {
        match frame {
            Frame::Primed(packed) => Ok(Frame::Data(self.unpack(&packed).await?.into())),
            frame => Ok(frame),
        }
    }

    /// The content of a primed frame. The primer comes on another channel, so it may still be on its way.
    async fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>, FrameError> {
        self.theirs.wait().await.as_ref().ok_or(FrameError::Malformed)?.unpack(packed)
    }
}

/// Does what transfers there are, and meanwhile tells the primer of what this side sends. If they are done first, nobody needs it.
pub(crate) async fn telling<T>(
    control: &Control,
    work: &Arc<Work>,
    transfers: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, SessionError> {
    beside(transfers, tell(control, work)).await
}

async fn tell(control: &Control, work: &Arc<Work>) -> Result<Infallible, SessionError> {
    let making = work.clone();
    let made = match work.packing {
        Packing::Off => None,
        _ => spawn_blocking(move || make(&making)).await.ok().flatten(),
    };
    let ours = match made {
        Some((priming, told)) => {
            control.send_content(&Message::Primer(told)).await?;
            Some(Arc::new(priming))
        }
        None => None,
    };
    let _ = work.primers.ours.set(ours);
    std::future::pending().await
}

/// Does what transfers there are, and meanwhile takes the primer of what the other side sends.
pub(crate) async fn hearing<T>(
    control: &Control,
    work: &Arc<Work>,
    transfers: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, SessionError> {
    beside(transfers, hear(control, work)).await
}

async fn hear(control: &Control, work: &Work) -> Result<Infallible, SessionError> {
    loop {
        take(work, control.receive().await?)?;
    }
}

/// Ends with the transfers, or with what breaks the `other` first.
async fn beside<T>(
    transfers: impl Future<Output = Result<T, SessionError>>,
    other: impl Future<Output = Result<Infallible, SessionError>>,
) -> Result<T, SessionError> {
    tokio::select! {
        biased;
        done = transfers => done,
        Err(error) = other => Err(error),
    }
}

/// Takes a message that comes while files travel; whether it is the one after which the other side brings nothing more.
pub(crate) fn take(work: &Work, message: Message) -> Result<bool, SessionError> {
    match message {
        Message::Primer(told) => work.primers.hear(&told).map(|()| false),
        Message::Commit if work.side == crate::core::side::Side::One => {
            work.primers.close();
            Ok(true)
        }
        _ => Err(SessionError::broke("it sent a message that has no place among transfers")),
    }
}

/// A primer, if there is enough to send and what was looked at shares enough.
fn make(work: &Work) -> Option<(Priming, Vec<u8>)> {
    let sent: Vec<u32> = (0..work.plan.items.len() as u32).filter(|item| work.sends(*item)).collect();
    if sent.len() < FEWEST {
        return None;
    }
    let (mut content, mut alone, mut files) = (Vec::new(), 0, 0);
    for at in spread(sent.len()).take(MOST.min(sent.len() / SHARE)) {
        let Some((file, packed)) = shrinking(work, sent[at]) else { continue };
        if content.len() + file.len() > MAX_PRIMER {
            break;
        }
        content.extend_from_slice(&file);
        (alone, files) = (alone + packed, files + 1);
    }
    let (priming, told) = Priming::new(&content)?;
    // Together they must be smaller than one by one by a tenth, or nothing is shared.
    (told.len() + REFERENCE * files < alone / 10 * 9).then_some((priming, told))
}

/// A small file that compresses, with its compressed size. What cannot be read is told when its turn comes.
fn shrinking(work: &Work, item: u32) -> Option<(Vec<u8>, usize)> {
    let mut source = work.source(item).ok().filter(|source| source.size() > 0 && !is_large(source.size()))?;
    let mut file = vec![0; usize::try_from(source.size()).ok()?];
    if source.fill(&mut file).ok()? < file.len() || source.finish().is_err() {
        return None;
    }
    let packed = zstd::bulk::compress(&file, 1).ok()?.len();
    (packed < file.len() / 8 * 7).then_some((file, packed))
}

/// Indices below `count`, each beginning of which is spread evenly over all; the first third of `count` has none twice.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    (0..).map(move |at: u32| ((f64::from(at) * GOLDEN).fract() * count as f64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn files_are_looked_at_all_over_the_plan_and_none_twice() {
        for count in [FEWEST, 65, 1000, 99_999] {
            let looked: Vec<usize> = spread(count).take(MOST.min(count / SHARE)).collect();
            assert_eq!(looked.iter().collect::<BTreeSet<_>>().len(), looked.len(), "{count}");
            assert!(looked.iter().all(|at| *at < count));
            for eighth in 0..8 {
                let within = |at: &&usize| **at * 8 / count == eighth;
                let here = looked.iter().take(looked.len() / 2).filter(within).count();
                assert!(here >= looked.len() / 32, "{here} of {} in {eighth}", looked.len());
            }
        }
    }

    #[tokio::test]
    async fn the_first_files_do_not_wait_for_the_primer_and_the_others_do() {
        let primers = Primers::default();
        for _ in 0..FEWEST {
            primers.made().await;
        }
        let (priming, _) = Priming::new(b"once upon a time").unwrap();
        let waits = async {
            primers.made().await;
            primers.ours().is_some()
        };
        let (primed, _) = tokio::join!(waits, async { primers.ours.set(Some(Arc::new(priming))) });
        assert!(primed);
    }

    #[tokio::test]
    async fn a_frame_that_needs_a_primer_waits_for_it_and_fails_once_none_will_come() {
        let (primers, (_, told)) =
            (Primers::default(), Priming::new(&b"once upon a time ".repeat(9)).unwrap());
        let frame = zstd::bulk::compress(b"once upon a time", 3).unwrap();
        let (unpacked, ()) = tokio::join!(primers.unpack(&frame), async { primers.hear(&told).unwrap() });
        assert_eq!(unpacked.unwrap(), b"once upon a time");
        assert!(primers.hear(&told).is_err());
        let primers = Primers::default();
        let (unpacked, ()) = tokio::join!(primers.unpack(&frame), async { primers.close() });
        assert_eq!(unpacked, Err(FrameError::Malformed));
        assert!(primers.hear(&told).is_err());
    }
}
