import { defineConfig } from "vitest/config";

export default defineConfig({
	test: {
		environment: "node",
		include: ["test/**/*.test.ts"],
		// Whole captured hosts are saved and restored; on a busy two-CPU machine that takes seconds.
		testTimeout: 300_000,
		hookTimeout: 60_000,
		pool: "forks",
		maxWorkers: 2,
	},
});
