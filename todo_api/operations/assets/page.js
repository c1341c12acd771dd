const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

// Relative references survive a proxy that serves the page below a prefix.
SwaggerUIBundle({url: "schema/openapi.json", dom_id: "#page", deepLinking: true, defaultModelsExpandDepth: 0});
