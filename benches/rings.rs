//! What `vfnic bench ring` measures, watched by criterion from one run to the next: `cargo bench --bench rings`.
//!
//! The null device and its split into timed and untimed parts are the command's own. Criterion is given the time of the
//! timed parts alone, so its figures are nanoseconds per packet at whatever clock the core runs at; for core cycles, and
//! for the rest of the configurations, see the command.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use vfnic_ring::Simd;
use vfnic_tools::bench::null::Caches;
use vfnic_tools::bench::ring::{Op, Setup, measure};

fn rings(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rings");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500));
    let paths = [Simd::Portable, Simd::Avx2, Simd::Avx512];
    for simd in paths.into_iter().filter(|simd| simd.is_available()) {
        for op in [Op::Rx, Op::Tx, Op::Fwd, Op::FwdTouch, Op::Fused] {
            for caches in [Caches::Hot, Caches::Cold] {
                let setup = Setup {
                    op,
                    simd,
                    caches,
                    ring: 512,
                    burst: 32,
                    prefetch: false,
                    repetitions: 1,
                };
                let name = format!("{op:?}/{}/{}", simd.name(), caches.name());
                group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                    bencher.iter_custom(|packets| {
                        let row = measure(&setup).expect("a null device in memory");
                        Duration::from_secs_f64(row.ns * 1e-9 * packets as f64)
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, rings);
criterion_main!(benches);
