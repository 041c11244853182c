//! Processes, and the connection between a process and the world, through which every port call goes.
//!
//! A call is a request on its way, an effect, and an answer on its way. A caller that stops waiting does not recall its
//! request, which may still arrive, as may one that a process sent before it crashed. A crashed process gets no answer
//! and sends no request any more, so no destructor can soften a crash.

use std::future::pending;
use std::time::Duration;

use shared::clock::{Clock, Timestamp};
use shared::error::BackendError;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::fault::Fault;
use super::random::Random;
use super::{State, World};

/// The wall time at which every run begins: 2023-11-14T22:13:20Z.
const WALL_START_MICROS: i64 = 1_700_000_000_000_000;

/// The longest delay of a late leg; longer than any lease of a run and any time limit of a call.
const LATE_MS_MAX: u64 = 20_000;

/// What the world knows of a process.
#[derive(Debug)]
pub(crate) struct Life {
    pub(super) name: String,
    crashed: bool,
    frozen_until: Option<Instant>,
    /// How long it will be frozen when it next makes a change.
    freezes_for: Option<Duration>,
    skew_micros: i64,
}

impl Life {
    pub(super) const fn new(name: String, skew_micros: i64) -> Self {
        Self { name, crashed: false, frozen_until: None, freezes_for: None, skew_micros }
    }

    /// Ends all faults: a freeze that was still to come is dropped.
    pub(super) const fn heal(&mut self) {
        self.freezes_for = None;
    }

    /// How much longer the process is frozen, if it is.
    fn rest(&self) -> Option<Duration> {
        let until = self.frozen_until.filter(|_| !self.crashed)?;
        until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())
    }
}

/// One process's connection to the world.
#[derive(Clone)]
pub(crate) struct Line {
    pub(super) world: World,
    pub(super) process: usize,
}

/// What will happen to one call.
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own, and all may strike together")]
struct Plan {
    request: Duration,
    answer: Duration,
    fails_before: bool,
    fails_after: bool,
    twice: bool,
    /// The request arrives although its caller no longer waits.
    stubborn: bool,
    /// The number of steps after which it stops, if it has that many.
    cut_after: Option<u32>,
}

impl Plan {
    fn draw(state: &mut State) -> Self {
        let late = state.strikes(Fault::Late);
        let State { random, faults, .. } = state;
        let (mut request, mut answer) = (faults.leg(random), faults.leg(random));
        if late {
            let delay = Duration::from_millis(random.below(LATE_MS_MAX));
            if random.chance(500) { request += delay } else { answer += delay }
        }
        let stubborn = random.chance(500);
        let cut_after = state.strikes(Fault::Cut).then(|| 1 + u32::try_from(state.random.below(3)).unwrap_or(0));
        Self {
            request,
            answer,
            stubborn,
            cut_after,
            fails_before: state.strikes(Fault::ErrorBefore),
            fails_after: state.strikes(Fault::ErrorAfter),
            twice: state.strikes(Fault::Twice),
        }
    }
}

impl Line {
    async fn begin(&self, verb: &'static str) -> Plan {
        self.alive().await;
        self.plan(verb).await
    }

    /// As [`begin`](Self::begin), but a process may be frozen just before it sends the request. It sends it as soon as
    /// it goes on, whatever has happened to its leases meanwhile.
    async fn begin_change(&self, verb: &'static str) -> Plan {
        let in_hand = self.world.with(|state| {
            let life = &mut state.lives[self.process];
            // Renewals are too frequent: every freeze would strike before one.
            if let Some(pause) = life.freezes_for.take_if(|_| !verb.starts_with("lease.")) {
                life.frozen_until = Some(Instant::now() + pause);
            }
            life.rest()
        });
        let Some(rest) = in_hand else { return self.begin(verb).await };
        let plan = self.plan(verb).await;
        Plan { request: plan.request + rest, stubborn: true, ..plan }
    }

    async fn plan(&self, verb: &'static str) -> Plan {
        if self.world.with(|state| state.count_call(verb)) {
            pending::<()>().await;
        }
        self.world.with(|state| {
            let plan = Plan::draw(state);
            let is_named = state.fails_next.take_if(|named| *named == verb).is_some();
            Plan { fails_before: plan.fails_before || is_named, ..plan }
        })
    }

    /// Makes a call that changes nothing.
    pub(super) async fn ask<T, F>(&self, verb: &'static str, answer: F) -> Result<T, BackendError>
    where
        F: FnOnce(&mut State) -> T,
    {
        let plan = self.begin(verb).await;
        pass(plan.request).await;
        let answered = self.world.with(|state| {
            state.trace.count(verb);
            answer(state)
        });
        pass(plan.answer).await;
        self.alive().await;
        if plan.fails_before || plan.fails_after { Err(BackendError::not_done(verb, FAULT)) } else { Ok(answered) }
    }

    /// Makes a call that changes something. `step` is called with 0, 1, 2, … until it returns an answer; a call may
    /// stop between two steps.
    pub(super) async fn change<T, F>(&self, verb: &'static str, step: F) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: FnMut(&mut State, u32) -> Option<T> + Send + 'static,
    {
        let plan = self.begin_change(verb).await;
        if plan.fails_before {
            pass(plan.request + plan.answer).await;
            self.alive().await;
            return Err(BackendError::not_done(verb, FAULT));
        }
        let (answer, fails_after) = (plan.answer, plan.fails_after);
        let arrived = if plan.request.is_zero() {
            self.world.with(|state| carry_out(state, verb, &plan, step))
        } else {
            self.send(verb, plan, step).await
        };
        pass(answer).await;
        self.alive().await;
        match arrived {
            Some(answered) if !fails_after => Ok(answered),
            _ => Err(BackendError::unknown(verb, FAULT)),
        }
    }

    /// Sends a request as a task of its own, so that it can arrive after its sender stopped waiting.
    async fn send<T, F>(&self, verb: &'static str, plan: Plan, step: F) -> Option<T>
    where
        T: Send + 'static,
        F: FnMut(&mut State, u32) -> Option<T> + Send + 'static,
    {
        let (answers, answered) = oneshot::channel();
        let line = self.clone();
        #[expect(clippy::disallowed_methods, reason = "the network is no task of a service")]
        tokio::spawn(async move {
            sleep(plan.request).await;
            let outcome = line.world.with(|state| {
                let abandoned = answers.is_closed() || state.lives[line.process].crashed;
                if abandoned && !plan.stubborn {
                    return None;
                }
                if abandoned {
                    state.note(line.process, "request arrives late", 0, 0);
                }
                carry_out(state, verb, &plan, step)
            });
            // The caller may have stopped waiting, which is the point.
            drop(answers.send(outcome));
        });
        answered.await.ok().flatten()
    }

    /// Returns if the process runs; waits while it is frozen, and for ever once it has crashed.
    pub(crate) async fn alive(&self) {
        loop {
            let thaw = self.world.with(|state| {
                let life = &state.lives[self.process];
                if life.crashed { Err(()) } else { Ok(life.frozen_until.filter(|until| *until > Instant::now())) }
            });
            match thaw {
                Ok(None) => return,
                Ok(Some(until)) => sleep_until(until).await,
                Err(()) => pending().await,
            }
        }
    }

    /// The process's wall clock.
    pub(crate) fn clock(&self) -> Clock {
        let skew = self.world.with(|state| state.lives[self.process].skew_micros);
        let start = self.world.start();
        Clock::of(move || Timestamp::from_micros(wall(start) + skew))
    }
}

/// Microseconds since 1970 by the world's own clock.
pub(super) fn wall(start: Instant) -> i64 {
    WALL_START_MICROS + i64::try_from(start.elapsed().as_micros()).unwrap_or(0)
}

const FAULT: &str = "the simulated network";

async fn pass(leg: Duration) {
    if !leg.is_zero() {
        sleep(leg).await;
    }
}

fn carry_out<T>(
    state: &mut State,
    verb: &'static str,
    plan: &Plan,
    mut step: impl FnMut(&mut State, u32) -> Option<T>,
) -> Option<T> {
    state.trace.count(verb);
    let mut answered = None;
    for _ in 0..=u8::from(plan.twice) {
        for number in 0.. {
            if plan.cut_after == Some(number) {
                return None;
            }
            answered = step(state, number);
            if answered.is_some() {
                break;
            }
        }
    }
    answered
}

impl World {
    /// The next call of this kind fails without effect, whoever makes it.
    pub(crate) fn fail_next(&self, verb: &'static str) {
        self.with(|state| state.fails_next = Some(verb));
    }

    /// Ends a process between two instructions.
    pub(crate) fn crash(&self, process: usize) {
        self.with(|state| {
            state.lives[process].crashed = true;
            state.note(process, Fault::Crash.name(), 0, 0);
        });
    }

    /// Freezes a process for a while, at once or at its next change.
    pub(crate) fn freeze(&self, process: usize, pause: Duration, at_once: bool) {
        self.with(|state| {
            let life = &mut state.lives[process];
            if at_once {
                life.frozen_until = Some(Instant::now() + pause);
            } else {
                life.freezes_for = Some(pause);
            }
            state.note(process, Fault::Freeze.name(), 0, u64::try_from(pause.as_millis()).unwrap_or(0));
        });
    }
}

impl State {
    /// A process that has just made a generation may be frozen at its next change, which is mostly to name it.
    pub(super) fn freeze_maker(&mut self, process: usize) {
        if self.strikes(Fault::Freeze) {
            self.lives[process].freezes_for = Some(Duration::from_millis(LATE_MS_MAX));
        }
    }
}

/// The offset of a skewed clock, in microseconds.
pub(super) fn skew(random: &mut Random) -> i64 {
    const DAY_MICROS: u64 = 86_400_000_000;
    i64::try_from(random.below(2 * DAY_MICROS)).unwrap_or(0) - i64::try_from(DAY_MICROS).unwrap_or(0)
}
