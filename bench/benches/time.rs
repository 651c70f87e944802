//! How long each part of the work takes for one close.

use criterion::{Criterion, criterion_group, criterion_main};

fn time(criterion: &mut Criterion) {
    for mut part in tcp_close_bench::parts().expect("the parts can be put together") {
        criterion.bench_function(part.name, |bencher| bencher.iter(|| part.work()));
    }
}

criterion_group!(benches, time);
criterion_main!(benches);
