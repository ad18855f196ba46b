package androidx.test.platform.app

object InstrumentationRegistry {
    @JvmStatic fun getInstrumentation(): android.app.Instrumentation = android.app.Instrumentation()

    @JvmStatic fun getArguments(): android.os.Bundle = android.os.Bundle()
}
