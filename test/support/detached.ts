/** Hosts with their bulk tables detached, as save, digest and restore in steps have them. */
import type { Core } from "../../src/core/load.ts";
import { TablesInMemory } from "../../src/core/windows.ts";
import { buildDetachedImage } from "../../src/machine/image.ts";
import type { HostModel, PreservedPages } from "../../src/machine/model.ts";
import { newCore } from "./core.ts";

export interface Model {
	model: HostModel;
	preserved: PreservedPages;
}

/** A host detached, its image in a core, its tables beside it. */
export function detach({ model, preserved }: Model, core = newCore()) {
	const { image, bulk } = buildDetachedImage(model, preserved);
	return { core, image: core.place(image), bulk, tables: new TablesInMemory(bulk) };
}

/** A stream opened and checked for a detached target, which is given. */
export function checkDetached(core: Core, stream: Uint8Array, memory: Uint8Array) {
	const window = core.place(stream);
	const preserved = core.place(memory);
	const context = core.createContext();
	context.open(window, { detached: true });
	const { imageBytes, workBytes } = context.plan(window);
	context.check(window, core.allocate(workBytes), preserved);
	const target = core.allocate(imageBytes);
	context.target(target);
	return { context, target };
}
