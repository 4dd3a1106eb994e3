/** The text around the generated tables of docs/FORMAT.md, docs/RULES.md and docs/ERRORS.md. */

export const formatIntroduction = `
# The live-update stream, version 1

A stream carries what a hypervisor (xen#1) knows of its domains to the hypervisor that replaces it (xen#2). Guest
memory, device state and page tables stay in place; the stream says where they are and carries the rest.

This document is generated from the one definition of the format. To implement the format elsewhere, this document is
all you need; the rules that a reader enforces are in [RULES.md](RULES.md).
`;

export const formatEnding = `
## Enumerations and flags
`;

export const rulesIntroduction = `
# Rules

Every refusal names a rule. Rules are never renumbered.
`;

export const errorsIntroduction = `
# Errors
`;
