//! The bank in a simulated world.

mod world;

#[tokio::test(start_paused = true)]
async fn smoke() {
    let world = world::World::new(1, world::fault::Faults::none());
    let _ports = world.process("a");
}
