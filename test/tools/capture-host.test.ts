import { spawnSync } from "node:child_process";
import {
	chmodSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const example = join(root, "examples/pv");
const has = (program: string) => spawnSync(program, ["--version"]).status === 0;

/**
 * Stands in for xl on the host of examples/pv: saving writes that image, a debug key appends that dump to a console
 * ring of which RING_LINES lines are kept. Every call is noted in the log.
 */
const XL = `#!/bin/bash
echo "xl $*" >>"$STATE/log"
case "$1 $2" in
"list ") printf 'Name ID Mem VCPUs State Time(s)\\nDomain-0 0 1536 1 r----- 32.1\\n'
	printf '%s 1 40 2 %s 5.4\\n(null) 2 0 1 --p--d 1.0\\n' pv1 "\${PV1_STATE:--b----}" ;;
"save -p") [ -z "$SAVE_FAILS" ] || exit 3; gunzip -c "$EXAMPLE/$3.xlsave.gz" >"$4" ;;
"dmesg ") cat "$STATE/ring" ;;
"dmesg -c") cat "$STATE/ring"; : >"$STATE/ring" ;;
"debug-keys "*) cat "$EXAMPLE/debugkey-$2.txt" >>"$STATE/ring"; echo "(d1) a guest's own output" >>"$STATE/ring"
	tail -n "\${RING_LINES:-100000}" "$STATE/ring" >"$STATE/tail"; mv "$STATE/tail" "$STATE/ring" ;;
"domid "*) echo 1 ;;
"vcpu-list pv1") printf 'Name ID VCPU\\npv1 1 0\\npv1 1 1\\n' ;;
"info "*) cat "$EXAMPLE/xl-info.txt" ;;
*) exit 0 ;;
esac
`;

describe.skipIf(process.platform !== "linux" || !has("bash"))("tools/capture-host.sh", () => {
	let state: string;
	let target: string;

	function capture(args: string[], env: Record<string, string> = {}) {
		const result = spawnSync("bash", [join(root, "tools/capture-host.sh"), ...args], {
			encoding: "utf8",
			timeout: 50_000,
			env: { ...process.env, PATH: `${state}/bin:${process.env.PATH}`, STATE: state, EXAMPLE: example, ...env },
		});
		const log = existsSync(join(state, "log")) ? readFileSync(join(state, "log"), "utf8").split("\n") : [];
		return { status: result.status, stderr: result.stderr, stdout: result.stdout, log };
	}

	beforeEach(() => {
		state = mkdtempSync(join(tmpdir(), "xlu-capture-"));
		target = join(state, "capture");
		mkdirSync(join(state, "bin"));
		const programs = { xl: XL, id: "#!/bin/sh\necho 0\n", sleep: "#!/bin/sh\n" };
		for (const [name, text] of Object.entries(programs)) {
			writeFileSync(join(state, "bin", name), text);
			chmodSync(join(state, "bin", name), 0o755);
		}
		writeFileSync(join(state, "ring"), "(XEN) Xen version 4.17.7\n");
	});
	afterEach(() => rmSync(state, { recursive: true, force: true }));

	it("takes every running guest's image and each dump for itself, then unpauses", () => {
		const { status, stderr, log } = capture(["--config", join(example, "pv1.cfg"), target]);
		expect(stderr).toContain("captured 1 guest(s)");
		expect(status).toBe(0);
		const image = gunzipSync(readFileSync(join(target, "pv1.xlsave.gz")));
		expect(image.equals(gunzipSync(readFileSync(join(example, "pv1.xlsave.gz"))))).toBe(true);
		for (const file of readdirSync(example).filter((name) => /^debugkey|^pv1\.cfg|^xl-info/.test(name))) {
			expect(readFileSync(join(target, file), "utf8"), file).toBe(readFileSync(join(example, file), "utf8"));
		}
		expect(readFileSync(join(target, "xl-dmesg.txt"), "utf8")).toContain("Xen version 4.17.7");
		expect(readdirSync(target).filter((name) => name.startsWith("."))).toEqual([]);
		expect(log.filter((line) => line === "xl unpause pv1")).toHaveLength(1);
		// Key q disturbs pending bits, which e shows.
		expect(log.indexOf("xl debug-keys e")).toBeLessThan(log.indexOf("xl debug-keys q"));
		expect(log.findIndex((line) => line.startsWith("xl save -p pv1"))).toBeLessThan(log.indexOf("xl debug-keys e"));
	});

	it("leaves the guests paused when told so, and says how to unpause them", () => {
		const { status, stderr, log } = capture(["--keep-paused", target, "pv1"]);
		expect(status).toBe(0);
		expect(log).not.toContain("xl unpause pv1");
		expect(stderr).toContain("pv1 stays paused until: xl unpause pv1");
	});

	it.skipIf(!has("python3"))("takes page contents out on request", () => {
		const { status, stderr } = capture(["--strip-memory", target]);
		expect(stderr).toContain("strip-image: 0 pages set to zero");
		expect(status).toBe(0);
		const image = gunzipSync(readFileSync(join(target, "pv1.xlsave.gz")));
		expect(image.equals(gunzipSync(readFileSync(join(example, "pv1.xlsave.gz"))))).toBe(true);
	});

	it("leaves nothing behind when a save fails before the image is opened: no directory, no paused guest", () => {
		const { status, stderr, log } = capture([target], { SAVE_FAILS: "1" });
		expect(status).toBe(1);
		expect(stderr).toContain("xl save -p pv1 failed");
		expect(log).toContain("xl unpause pv1");
		expect(existsSync(target)).toBe(false);
	});

	it("refuses a dump of which the console ring held only the end", () => {
		const { status, stderr, log } = capture([target], { RING_LINES: "20" });
		expect(status).toBe(1);
		expect(stderr).toContain("debug key e: its first line is not in the console ring; boot Xen with conring_size=2M");
		expect(log).toContain("xl unpause pv1");
		expect(existsSync(target)).toBe(false);
	});

	it("overwrites nothing", () => {
		mkdirSync(target);
		writeFileSync(join(target, "kept"), "");
		const { status, stderr, log } = capture([target]);
		expect(status).toBe(1);
		expect(stderr).toContain("exists; nothing is overwritten");
		expect(readdirSync(target)).toEqual(["kept"]);
		expect(log.filter((line) => line.startsWith("xl save"))).toEqual([]);
	});

	it.each([
		["a guest that does not exist", ["pv2"], {}, "no guest pv2"],
		["a guest that is paused already", ["pv1"], { PV1_STATE: "--p---" }, "pv1 is paused; xl unpause it first"],
		["a guest that is shut down", ["pv1"], { PV1_STATE: "---s--" }, "pv1 is shut down or dying"],
		["a host without a running guest", [], { PV1_STATE: "---s--" }, "no running guest"],
	])("refuses %s before anything is touched", (_, guests, env, message) => {
		const { status, stderr, log } = capture([target, ...guests], env as Record<string, string>);
		expect(status).toBe(1);
		expect(stderr).toContain(message);
		expect(log.filter((line) => /save|pause|dmesg|debug/.test(line))).toEqual([]);
		expect(existsSync(target)).toBe(false);
	});

	it("explains itself, and tells wrong usage from failure", () => {
		const help = capture(["--help"]);
		expect(help.status).toBe(0);
		expect(help.stdout).toContain("xl unpause GUEST");
		expect(capture([]).status).toBe(2);
		expect(capture(["--nonsense", target]).status).toBe(2);
	});
});
