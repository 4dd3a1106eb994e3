/** Programs that read xenstore streams, by name: what one was seen to do with a stream decides what `--for` says of it. */

/** The C daemon of Xen 4.17, and a build of August 2026. */
export const daemons = ["xenstored-4.17", "xenstored-2026"] as const;
export type Daemon = (typeof daemons)[number];

/** The first version of the re-work of April 2020, which was never read by a released daemon. */
export const dialects = ["draft-2020-04"] as const;
export type Dialect = (typeof dialects)[number];

/** Versions of the stream that a daemon reads; the last one is what it is written. */
export const versionsOf: Readonly<Record<Daemon, readonly number[]>> = {
	"xenstored-4.17": [1],
	"xenstored-2026": [1, 2],
};

/**
 * What a daemon makes of it. `dies`: it ends, or there is no telling what it reads. `mangles`: it answers, but not as the
 * stream says. `fine`: it answers as the stream says.
 */
export type Effect = "dies" | "mangles" | "fine";
export type Effects = Readonly<Record<Daemon, Effect>>;

/** The same for both. */
export const both = (effect: Effect): Effects => ({ "xenstored-4.17": effect, "xenstored-2026": effect });
