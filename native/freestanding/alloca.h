/* For a loader without a C library: wasm2c's output includes it and does not use it. */
