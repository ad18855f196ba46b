// What the exported tests use of androidx.test, which no package registry here carries: to compile against.
package androidx.test.platform.app

object InstrumentationRegistry {
    @JvmStatic fun getInstrumentation(): android.app.Instrumentation = throw NotImplementedError()

    @JvmStatic fun getArguments(): android.os.Bundle = throw NotImplementedError()
}
