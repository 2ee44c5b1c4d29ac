//! How busy this node is, told to its peers.

use std::time::Duration;

use skein_proto::Load;
use sysinfo::{CpuRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio_util::sync::CancellationToken;

use super::{Shared, cpu_bound};

/// Between two measurements: what peers rank by should not be much older than a call takes.
const PERIOD: Duration = Duration::from_millis(500);

/// Measures and publishes until told to stop.
pub(super) async fn publish(shared: Shared, stop: CancellationToken) {
    let mut system = System::new();
    let process = sysinfo::get_current_pid().ok();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let mut load = shared.runtime.load();
        system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_cpu_usage());
        load.memory_budget_mib = u32::try_from(shared.config.memory.as_u64() >> 20).unwrap_or(u32::MAX);
        load.cpu_permille = permille(system.global_cpu_usage());
        if let Some(pid) = process {
            let what = ProcessRefreshKind::nothing().with_memory().with_cpu();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
            let bytes = system.process(pid).map_or(0, sysinfo::Process::memory);
            load.memory_mib = u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
            let used = system.process(pid).map_or(0.0, sysinfo::Process::cpu_usage);
            let of_bound = cpu_bound::cores().map_or(0, |cores| permille_of(used, cores));
            load.cpu_permille = load.cpu_permille.max(of_bound);
        }
        shared.membership.publish_load(load);
    }
}

/// Tells every peer at once which versions are warm here, with the other figures as they were last measured.
pub(super) fn announce(shared: &Shared) {
    let view = shared.membership.view();
    let mut load = shared.runtime.load();
    if let Some(me) = view.peers.get(&shared.transport.local()) {
        let Load { cpu_permille, memory_mib, memory_budget_mib, .. } = me.load;
        load = Load { cpu_permille, memory_mib, memory_budget_mib, ..load };
    }
    shared.membership.announce_load(load);
}

/// What is used, in percent of one core, in thousandths of so many cores.
fn permille_of(used: f32, cores: f64) -> u16 {
    (f64::from(used) * 10.0 / cores).clamp(0.0, 1000.0) as u16
}

/// Percent as a float, in thousandths.
fn permille(percent: f32) -> u16 {
    // Clamped before the cast, which then cannot lose anything but the fraction.
    (percent * 10.0).clamp(0.0, 1000.0) as u16
}
