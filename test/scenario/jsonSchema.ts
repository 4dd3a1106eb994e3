/** As much of JSON Schema as docs/scenario.schema.json uses: an unknown keyword is an error of the test. */

type Schema = Readonly<Record<string, unknown>>;

/** Words that say nothing of what is valid. */
const annotations = new Set(["$schema", "$comment", "$defs", "title", "description", "default"]);

export function accepts(root: Schema, value: unknown, schema: Schema = root): boolean {
	const again = (sub: unknown, part: unknown): boolean => accepts(root, part, sub as Schema);
	const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
	const keys = isObject ? Object.keys(value) : [];
	const part = (key: string): unknown => (value as Record<string, unknown>)[key];
	return Object.entries(schema).every(([word, says]) => {
		const number = says as number;
		switch (word) {
			case "type":
				if (says === "integer") return Number.isInteger(value);
				if (says === "array") return Array.isArray(value);
				return says === "object" ? isObject : typeof value === says;
			case "const":
				return value === says;
			case "enum":
				return (says as unknown[]).includes(value);
			case "anyOf":
				return (says as Schema[]).some((sub) => again(sub, value));
			case "$ref":
				return again((root.$defs as Record<string, Schema>)[`${says}`.replace("#/$defs/", "")], value);
			case "properties":
				return keys.every((key) => !Object.hasOwn(says as object, key) || again((says as Schema)[key], part(key)));
			case "additionalProperties":
				return keys.every((key) => Object.hasOwn(schema.properties as object, key));
			case "required":
				return (says as string[]).every((key) => keys.includes(key));
			case "minProperties":
				return keys.length >= number;
			case "items":
				return !Array.isArray(value) || value.every((entry) => again(says, entry));
			case "maxItems":
				return !Array.isArray(value) || value.length <= number;
			case "minimum":
				return typeof value !== "number" || value >= number;
			case "maximum":
				return typeof value !== "number" || value <= number;
			case "minLength":
				return typeof value !== "string" || value.length >= number;
			case "maxLength":
				return typeof value !== "string" || value.length <= number;
			case "pattern":
				return typeof value !== "string" || new RegExp(`${says}`).test(value);
		}
		if (annotations.has(word)) return true;
		throw new Error(`unknown keyword ${word}`);
	});
}
