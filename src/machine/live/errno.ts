/**
 * What an operation of the machine returns: what was asked for (a port, a handle, an MFN, a count) or 0, and where the
 * hypervisor refuses, its own number below zero: an errno, or for grant operations a GNTST status. Public numbers of
 * public/errno.h and public/grant_table.h.
 */

export const ERRNO = {
	EPERM: 1,
	ENOENT: 2,
	ESRCH: 3,
	E2BIG: 7,
	ENOMEM: 12,
	EACCES: 13,
	EFAULT: 14,
	EBUSY: 16,
	EEXIST: 17,
	EINVAL: 22,
	ENOSPC: 28,
	ERANGE: 34,
	ENOSYS: 38,
	EOPNOTSUPP: 95,
} as const;
export type Errno = keyof typeof ERRNO;

/** Statuses of grant operations (GNTST_*). */
export const GNTST = {
	okay: 0,
	general_error: -1,
	bad_domain: -2,
	bad_gntref: -3,
	bad_handle: -4,
	bad_virt_addr: -5,
	bad_dev_addr: -6,
	no_device_space: -7,
	permission_denied: -8,
	bad_page: -9,
	bad_copy_arg: -10,
	address_too_big: -11,
	eagain: -12,
	no_space: -13,
} as const;
export type GrantStatus = keyof typeof GNTST;

/** A refusal in the middle of an operation; `Machine.run` turns it into the operation's result. */
export class Refused extends Error {
	readonly result: number;

	constructor(name: string, result: number) {
		super(name);
		this.result = result;
	}
}

/** Ends an operation with an errno. */
export function refuse(name: Errno): never {
	throw new Refused(name, -ERRNO[name]);
}

/** Ends a grant operation with a status. */
export function refuseGrant(name: GrantStatus): never {
	throw new Refused(`GNTST_${name}`, GNTST[name]);
}

/** Goes on only where a condition holds. */
export function need(condition: unknown, name: Errno): asserts condition {
	if (!condition) refuse(name);
}

export function needGrant(condition: unknown, name: GrantStatus): asserts condition {
	if (!condition) refuseGrant(name);
}

const errnoNames = new Map<number, string>(Object.entries(ERRNO).map(([name, value]) => [-value, name]));
const grantNames = new Map<number, string>(Object.entries(GNTST).map(([name, value]) => [value, `GNTST_${name}`]));

/** A result as people read it: `EINVAL`, `GNTST_bad_gntref`, or the number. */
export function resultText(operation: string, result: number): string {
	const names = operation.startsWith("gnttab_") ? grantNames : errnoNames;
	return result < 0 ? (names.get(result) ?? `${result}`) : `${result}`;
}
